//! Hurting the virtual machine from inside: a copy of the release with a module
//! of ours in it, which connects to this process and does what it is told.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The module.
const SOURCE: &str = include_str!("saboteur.erl");

/// How long a virtual machine may take until its saboteur is there.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to carry an order out.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// A copy of the release whose virtual machine has a saboteur. It is removed
/// when this is dropped.
#[derive(Debug)]
pub struct Release(PathBuf);

impl Release {
    /// Copies one; its saboteurs connect to `port`.
    ///
    /// # Errors
    /// When it is not complete, or there is no `erlc`.
    pub fn copy(original: &Path, port: u16) -> Result<Self, Box<dyn Error>> {
        let name = format!("portmapper-soak-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        let copy = Self(directory);
        run(Command::new("cp").arg("-R").arg(original).arg(copy.root()))?;
        let versions = fs::read_to_string(copy.root().join("releases/start_erl.data"))?;
        let version = versions.split_whitespace().nth(1).ok_or("start_erl.data has no version")?;
        let source = copy.0.join("saboteur.erl");
        fs::write(&source, SOURCE)?;
        let modules = copy.root().join(format!("lib/portmapper-{version}/ebin"));
        run(Command::new("erlc").arg("-o").arg(modules).arg(source))?;
        let arguments = copy.root().join(format!("releases/{version}/vm.args"));
        let text = fs::read_to_string(&arguments)?;
        fs::write(arguments, format!("{text}\n-s saboteur\n-saboteur {port}\n"))?;
        Ok(copy)
    }

    /// Where it is.
    pub fn root(&self) -> PathBuf {
        self.0.join("release")
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// The saboteurs of all virtual machines that have started.
#[derive(Debug)]
pub struct Saboteurs {
    listener: TcpListener,
    connected: HashMap<u32, BufReader<TcpStream>>,
}

impl Saboteurs {
    /// Waits for them on a port.
    ///
    /// # Errors
    /// When it is taken.
    pub fn expect_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connected: HashMap::new() })
    }

    /// Waits until that of a virtual machine is there.
    ///
    /// # Errors
    /// When it does not come.
    pub fn await_one(&mut self, vm: u32) -> io::Result<()> {
        let begun = Instant::now();
        while !self.connected.contains_key(&vm) {
            match self.listener.accept() {
                Ok((stream, _)) => self.greet(stream)?,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ if begun.elapsed() > START_TIMEOUT => {
                    return Err(io::Error::other(format!("no saboteur in VM {vm}")));
                }
                _ => sleep(Duration::from_millis(1)),
            }
        }
        Ok(())
    }

    fn greet(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(ORDER_TIMEOUT))?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        // It may have been killed at once.
        if let Ok(pid) = line.trim_end().parse() {
            self.connected.insert(pid, stream);
        }
        Ok(())
    }

    /// Has that of a virtual machine carry an order out; what it answers.
    ///
    /// # Errors
    /// When it does not, or the virtual machine ends before it has answered.
    pub fn order(&mut self, vm: u32, order: &str) -> io::Result<String> {
        self.await_one(vm)?;
        let mut obey = || {
            let stream = self.connected.get_mut(&vm).ok_or(ErrorKind::NotFound)?;
            writeln!(stream.get_mut(), "{order}")?;
            let mut answer = String::new();
            match stream.read_line(&mut answer)? {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                _ => Ok(answer.trim_end().to_owned()),
            }
        };
        let answer = obey();
        if answer.is_err() {
            self.connected.remove(&vm);
        }
        answer
    }
}
