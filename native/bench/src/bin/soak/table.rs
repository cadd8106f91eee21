//! `soak table`: what dies, and what nodes and those who look them up notice;
//! ours beside C `epmd`.

use std::error::Error;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::wire::{free_port, names};
use epmd_server::port_holder;
use rustix::process::Signal;

use crate::epmd::{Epmd, NODES_CONNECT_TO, connect};
use crate::nodes::Node;
use crate::options::Options;
use crate::otp_node::OtpNode;
use crate::probe::{View, answers, fate, watch};
use crate::process;
use crate::stage::Stage;
use crate::trouble::{Kind, Trouble};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often each is seen.
const ROUNDS: usize = 5;

/// How long names are watched afterwards: OTP's nodes try again after 2 s.
const WATCHED: Duration = Duration::from_millis(3_500);

/// How long a virtual machine serves until its end counts as the first one, and is
/// done with its start.
const SETTLED: Duration = Duration::from_secs(2);

/// How long C `epmd` may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What dies.
const TROUBLES: [(Kind, &str); 5] = [
    (Kind::Panic, "the server's thread (panic)"),
    (Kind::Own, "an Erlang process of ours"),
    (Kind::Application, "the application"),
    (Kind::TakeOver, "the VM, for a new one (`epmd -takeover`)"),
    (Kind::Kill, "the VM (`kill -9`)"),
];

/// Measures and prints it.
///
/// # Errors
/// When something does not start, or a node of ours notices what it may not.
pub fn run(options: &Options) -> Result<()> {
    let rounds = options.number("rounds", ROUNDS)?;
    let mut stage = Stage::set(options)?;
    let saboteurs = stage.saboteurs()?;
    let (epmd, subject) = (&stage.epmd, &stage.subject);
    let mut trouble = Trouble::new(epmd, subject, saboteurs, stage.chance.fork(), Vec::new());
    let nodes = Pair::register(epmd, &stage)?;
    let nodes = Pair { otp: nodes.otp.note(epmd)?, ..nodes };
    println!("| what dies | look-ups | an `erl` node | another node |\n|---|---|---|---|");
    for (kind, what) in TROUBLES {
        row(what, rounds, || {
            sleep(SETTLED);
            nodes.watch(epmd, || trouble.make(kind))
        })?;
        nodes.check(epmd)?;
    }
    row("the keeper (`kill -9`)", rounds, || {
        // There is one again.
        trouble.make(Kind::TakeOver)?;
        sleep(SETTLED);
        let keeper = subject.keeper(trouble.vm()?)?.ok_or("there is no keeper")?;
        nodes.watch(epmd, || Ok(process::signal(keeper, Signal::KILL)?))
    })?;
    nodes.check(epmd)?;
    drop(nodes);
    row("VM and keeper, started again", rounds, || {
        Pair::register(epmd, &stage)?.watch(epmd, || {
            subject.kill();
            subject.launch()
        })
    })?;
    let c = C::launch(options.text("c-epmd").unwrap_or("epmd"))?;
    let c_epmd = Epmd::on(c.port);
    row("C `epmd`, started again", rounds, || {
        Pair::register(&c_epmd, &stage)?.watch(&c_epmd, || {
            c.kill();
            c.start()
        })
    })?;
    Ok(epmd.faults.check()?)
}

/// Sees it some times, and prints what was seen.
fn row(what: &str, rounds: usize, mut see: impl FnMut() -> Result<[View; 2]>) -> Result<()> {
    let views = (0..rounds).map(|_| see()).collect::<Result<Vec<_>>>()?;
    let [otp, other] =
        [0, 1].map(|at| views.iter().filter_map(|both| both.get(at)).copied().collect::<Vec<_>>());
    println!("| {what} | {} | {} | {} |", answers(&other), fate(&otp), fate(&other));
    Ok(())
}

/// A node of OTP, and one that does not register again.
struct Pair {
    otp: OtpNode,
    other: Node,
}

impl Pair {
    fn register(epmd: &Epmd, stage: &Stage) -> Result<Self> {
        let otp = OtpNode::start(epmd, "otp", None)?.ok_or("its registration was cut off")?;
        Ok(Self { otp, other: Node::register(epmd, &stage.listeners, "other")? })
    }

    fn watch(&self, epmd: &Epmd, done: impl FnOnce() -> Result<()>) -> Result<[View; 2]> {
        watch(epmd.port, [self.otp.name(), self.other.name()], WATCHED, done)
    }

    fn check(&self, epmd: &Epmd) -> Result<()> {
        self.otp.check(epmd)?;
        Ok(self.other.check(epmd)?)
    }
}

/// C `epmd` in the background. It ends when this is dropped.
struct C {
    program: String,
    port: u16,
}

impl C {
    fn launch(program: &str) -> Result<Self> {
        let c = Self { program: program.to_owned(), port: free_port()? };
        c.start()?;
        Ok(c)
    }

    fn start(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["-daemon", "-port", &self.port.to_string(), "-address"]);
        command.arg(NODES_CONNECT_TO.to_string());
        command.stdin(Stdio::null()).status()?;
        let begun = Instant::now();
        while names(self.port).is_err() {
            if begun.elapsed() > START_TIMEOUT {
                return Err(format!("{} does not start", self.program).into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn kill(&self) {
        let address = SocketAddr::from((NODES_CONNECT_TO, self.port));
        if let Some(daemon) = port_holder(address).and_then(|holder| holder.pid.try_into().ok()) {
            let _ = process::signal(daemon, Signal::KILL);
            // Nobody may be in a hurry to bury it.
            while connect(NODES_CONNECT_TO, self.port).is_ok() {
                sleep(Duration::from_micros(200));
            }
        }
    }
}

impl Drop for C {
    fn drop(&mut self) {
        self.kill();
    }
}
