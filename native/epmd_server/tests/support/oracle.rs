//! A program `epmd` on a port of its own: OTP's, as the oracle.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::wire::{STARTING, eventually, names};

/// A running C `epmd`. Dropping it ends it.
#[derive(Debug)]
pub struct Oracle {
    pub addr: SocketAddr,
    child: Child,
    /// Keeps the port from others.
    _claim: UdpSocket,
}

impl Oracle {
    /// Starts one as `epmd` starts by default, or with relaxed command checks.
    pub fn start(relaxed: bool) -> Self {
        Self::with(if relaxed { &["-relaxed_command_check"] } else { &[] })
    }

    /// Starts one with these options. It listens on loopback addresses alone.
    pub fn with(options: &[&str]) -> Self {
        Self::of(program(), options)
    }

    /// The same of any program with the command line of `epmd`.
    pub fn of(program: &Path, options: &[&str]) -> Self {
        // A port that was free can be taken before epmd binds it.
        (0..100).find_map(|_| Self::try_of(program, options)).expect("epmd starts")
    }

    fn try_of(program: &Path, options: &[&str]) -> Option<Self> {
        let (port, claim) = claim_port();
        let mut command = Command::new(program);
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]).args(options);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ERL_EPMD_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _others_wait = STARTING.write();
        let child = command.spawn().expect("epmd can be executed");
        let addr = (Ipv4Addr::LOCALHOST, port).into();
        let mut oracle = Self { addr, child, _claim: claim };
        let mut ended = false;
        let accepts = eventually(|| {
            ended = oracle.has_ended();
            ended || TcpStream::connect(oracle.addr).is_ok()
        });
        // It answers once it listens on all of its addresses.
        (accepts && !ended && names(oracle.addr).len() == 4).then_some(oracle)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port, and a claim on it: whoever runs these tests at the same time
/// holds the UDP port of the same number.
///
/// It is below those that the system gives to connections, since one of them
/// could take it, or even connect to itself.
fn claim_port() -> (u16, UdpSocket) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 18_000;
    loop {
        let step = std::process::id() * 50 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (step % COUNT) as u16;
        if let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return (port, claim);
        }
    }
}

/// Where `epmd` is: on the path, or inside the installation of `erl`.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        on_path().or_else(beside_erl).expect("epmd on the path, or an Erlang/OTP with one")
    })
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("epmd")).find(|file| file.is_file())
}

fn beside_erl() -> Option<PathBuf> {
    let print = r#"io:put_chars(filename:join([code:root_dir(),
        "erts-" ++ erlang:system_info(version), "bin", "epmd"])), halt()."#;
    let output = Command::new("erl").args(["-noshell", "-eval", print]).output().ok()?;
    let file = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    file.is_file().then_some(file)
}
