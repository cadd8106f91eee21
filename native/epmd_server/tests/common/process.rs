//! Tests that need a process of their own: the test binary runs the one test
//! again, with a role to play.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ROLE: &str = "EPMD_SERVER_TEST_ROLE";

/// What this process plays in a test; none in the first one.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Whether this is the process that the test is to happen in. If not, runs it
/// in one that `wrapper` starts: a command that runs what follows it.
///
/// # Panics
/// When the test fails there.
pub fn is_own(test: &str, wrapper: &[&str]) -> bool {
    if role().is_some() {
        return true;
    }
    let output = again(test, "own", wrapper).output().unwrap();
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{stdout}{stderr}");
    false
}

/// This test once more.
fn again(test: &str, role: &str, wrapper: &[&str]) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsStr::new).chain([binary.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).stdin(Stdio::null());
    command
}

/// Another process that plays its part in a test, with lines of text between.
/// It is killed when this is dropped.
pub struct Partner {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// Begins the lines of the protocol; the test harness prints others.
const MARK: &str = "@ ";

impl Partner {
    pub fn start(test: &str, role: &str, wrapper: &[&str]) -> Self {
        let mut command = again(test, role, wrapper);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdin, stdout }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// The next line that it told.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the partner has ended");
            // The harness leaves its own line unfinished.
            if let Some((_, told)) = line.trim_end().split_once(MARK) {
                return told.to_owned();
            }
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Waits for its part to end well.
    pub fn finish(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tells the first process a line.
pub fn tell(line: &str) {
    println!("{MARK}{line}");
}

/// The next line of the first process; none when it is gone.
pub fn hear() -> Option<String> {
    std::io::stdin().lines().next()?.ok()
}

/// Runs a shell command.
///
/// # Panics
/// When it fails.
pub fn sh(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Says why a test does not run, past the harness, which would hide it.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}
