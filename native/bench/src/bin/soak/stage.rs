//! What every mode starts with.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::epmd::Epmd;
use crate::nodes::{Listeners, Node};
use crate::options::Options;
use crate::saboteur::{Release, Saboteurs};
use crate::subject::Subject;
use bench::chance::Chance;
use bench::process::raise_file_limit;

/// That of the units.
const EPMD_PORT: u16 = 4369;

/// A port mapper that runs, and what is needed to hurt it. What is first here
/// ends first.
#[derive(Debug)]
pub struct Stage {
    pub subject: Subject,
    pub epmd: Epmd,
    pub listeners: Listeners,
    pub chance: Chance,
    saboteurs: Option<Saboteurs>,
    _release: Option<Release>,
}

impl Stage {
    /// Starts the port mapper of the release.
    ///
    /// # Errors
    /// When it does not start.
    pub fn set(options: &Options) -> Result<Self, Box<dyn Error>> {
        raise_file_limit()?;
        // Inside a host with systemd the release is there already.
        let (port, saboteurs, release) = match options.text("inside") {
            Some(port) => (EPMD_PORT, Saboteurs::expect_on(port.parse()?)?, None),
            None => {
                let [port, saboteurs_port] = free_ports()?;
                let saboteurs = Saboteurs::expect_on(saboteurs_port)?;
                (port, saboteurs, Some(Release::copy(&options.release, saboteurs_port)?))
            }
        };
        let root = release.as_ref().map_or(options.release.clone(), Release::root);
        let subject = Subject::start(&root, port, options.manager)?;
        Ok(Self {
            subject,
            epmd: Epmd::on(port),
            listeners: Listeners::open()?,
            chance: Chance::new(seed(options)?),
            saboteurs: Some(saboteurs),
            _release: release,
        })
    }

    /// Who hurts it: can be had once.
    ///
    /// # Errors
    /// The second time.
    pub fn saboteurs(&mut self) -> Result<Saboteurs, Box<dyn Error>> {
        self.saboteurs.take().ok_or_else(|| "the saboteurs are taken".into())
    }

    /// Registers so many nodes.
    ///
    /// # Errors
    /// When one is not answered.
    pub fn register(&self, kind: &str, count: usize) -> io::Result<Vec<Node>> {
        let register =
            |number| Node::register(&self.epmd, &self.listeners, &format!("{kind}{number}"));
        (0..count).map(register).collect()
    }
}

/// Two ports that nobody listens on.
fn free_ports() -> io::Result<[u16; 2]> {
    let open = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0));
    let (one, other) = (open()?, open()?);
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// `SOAK_SEED`, else another one each time. It is printed.
fn seed(options: &Options) -> Result<u64, Box<dyn Error>> {
    let seed = match std::env::var("SOAK_SEED") {
        Ok(text) => text.parse().map_err(|_| format!("SOAK_SEED={text}: not a number"))?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("\nsoak {}, SOAK_SEED={seed}", options.mode);
    Ok(seed)
}
