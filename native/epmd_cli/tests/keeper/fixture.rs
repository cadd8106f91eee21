//! A keeper and its virtual machines: the executable with a release of the test's
//! own, in which `vm.py` stands where OTP's programs are.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

pub(crate) const EPMD: &str = env!("CARGO_BIN_EXE_epmd");

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) fn await_that(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// A directory with a release in it, which goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(format!("epmd-keeper-{}-{}", unique.0, unique.1));
        let file = |path: &str, text: &str, mode| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        file("releases/start_erl.data", "1 2", 0o644);
        for name in ["releases/2/start.boot", "releases/2/vm.args", "releases/2/sys.config"] {
            file(name, "", 0o644);
        }
        file("lib/portmapper-2/priv/portmapper_nif.so", "", 0o644);
        for name in ["erts-1/bin/beam.smp", "erts-1/bin/erl_child_setup"] {
            file(name, "", 0o755);
        }
        file("erts-1/bin/erlexec", include_str!("vm.py"), 0o755);
        Self(root)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A keeper in the foreground, or whoever has started one in the background.
pub(crate) struct Keeper {
    pub(crate) process: Child,
    pub(crate) port: u16,
    messages: BufReader<ChildStderr>,
    control: UnixListener,
    directory: Directory,
}

impl Keeper {
    /// `epmd` with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_by(Command::new(EPMD), arguments)
    }

    /// The same by a command that comes to it, with more variables maybe.
    pub(crate) fn start_by(mut command: Command, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        let address = directory.0.join("control");
        let control = UnixListener::bind(&address).unwrap();
        control.set_nonblocking(true).unwrap();
        let port = free_port();
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]).args(arguments);
        command.env("PORTMAPPER_ROOT", &directory.0).env("VM_CONTROL", &address);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let messages = BufReader::new(process.stderr.take().unwrap());
        Self { process, port, messages, control, directory }
    }

    /// The next virtual machine that it starts.
    pub(crate) fn next_vm(&self) -> Vm {
        let begun = Instant::now();
        let stream = loop {
            match self.control.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => assert!(begun.elapsed() < DEADLINE, "no virtual machine in time"),
            }
            sleep(Duration::from_millis(1));
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut lines = BufReader::new(stream);
        let hello = read_line(&mut lines).expect("a virtual machine that says hello");
        Vm { pid: pid_of(&hello["pid"]), hello, lines }
    }

    /// The next one, which serves.
    pub(crate) fn serving_vm(&self) -> Vm {
        let mut vm = self.next_vm();
        vm.tell("READY=1");
        vm.settle();
        vm
    }

    pub(crate) fn has_no_other_vm(&self) -> bool {
        self.control.accept().is_err()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// A connection to the port.
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "does not end");
            sleep(Duration::from_millis(2));
        }
    }

    /// The next line that it tells; an empty one when nobody is left to tell any.
    pub(crate) fn next_message(&mut self) -> String {
        let mut line = String::new();
        self.messages.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn port_is_free(&self) -> bool {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    /// All that was started for this test and has not ended.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mark = self.directory.0.as_os_str().as_encoded_bytes();
        let is_marked = |pid: &Pid| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.windows(mark.len()).any(|part| part == mark)
        };
        let numbers = fs::read_dir("/proc").unwrap().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter_map(Pid::from_raw).filter(is_marked).collect()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let mut left = self.processes();
        while !left.is_empty() {
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
            }
            let _ = self.process.wait();
            left = self.processes();
        }
    }
}

/// A virtual machine that does what it is told.
pub(crate) struct Vm {
    pub(crate) pid: Pid,
    /// What it told of its start.
    pub(crate) hello: Value,
    lines: BufReader<UnixStream>,
}

impl Vm {
    /// Has it do something; the answer.
    pub(crate) fn call(&mut self, command: Value) -> Value {
        self.order(command);
        read_line(&mut self.lines).expect("an answer")
    }

    /// The same without an answer: it may end meanwhile.
    pub(crate) fn order(&mut self, command: Value) {
        writeln!(self.lines.get_mut(), "{command}").unwrap();
    }

    /// Has it say this to the keeper.
    pub(crate) fn tell(&mut self, text: &str) {
        self.call(json!(["tell", text]));
    }

    /// Waits until the keeper has done all that it was told before.
    pub(crate) fn settle(&mut self) {
        assert_eq!(self.call(json!(["barrier"])), "");
    }

    /// Ends it with a signal.
    pub(crate) fn kill(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// The names of what it was handed over, less the sockets that listen and the
    /// way to the keeper.
    pub(crate) fn stored(&self) -> Vec<&str> {
        let listeners = self.hello["listeners"].as_array().unwrap();
        let names = self.hello["names"].as_array().unwrap().iter();
        let names = names.filter(|&name| name != "keeper" && !listeners.contains(name));
        let mut names: Vec<_> = names.map(|name| name.as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn parent(&self) -> Pid {
        pid_of(&self.hello["parent"])
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.hello[key].as_u64().unwrap()
    }
}

fn read_line(lines: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

fn pid_of(value: &Value) -> Pid {
    Pid::from_raw(value.as_i64().unwrap().try_into().unwrap()).unwrap()
}

/// A port outside of those that the system gives to connections.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let seed = std::process::id() as usize * 37 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + seed % 20_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether a process is there, if only as a zombie.
pub(crate) fn exists(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// The descriptors that a process has open.
pub(crate) fn open_descriptors(pid: Pid) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap().count()
}
