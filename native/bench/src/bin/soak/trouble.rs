//! What is done to the port mapper.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::epmd::Epmd;
use crate::leaks::await_stored;
use crate::nodes::Node;
use crate::process;
use crate::saboteur::Saboteurs;
use crate::subject::Subject;
use bench::chance::Chance;
use bench::waits::milliseconds;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a part that has died may take to be there again.
const RECOVERY: Duration = Duration::from_secs(10);

/// How long a virtual machine may take to end of the death of a process: OTP's
/// applications have time to say why.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What the application, and OTP's own, stand on.
const ENDS: [&str; 3] = ["supervisor", "master", "kernel"];

/// About as many processes has a virtual machine.
const PROCESSES: usize = 32;

/// Something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `kill -9` of the virtual machine.
    Kill,
    /// A successor takes over.
    TakeOver,
    /// The server's thread panics.
    Panic,
    /// A process of ours that has a name is killed.
    Own,
    /// One that ends the application, and so the virtual machine.
    Application,
    /// Any process of the virtual machine is killed.
    Any,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::TakeOver, Self::Panic, Self::Own, Self::Application, Self::Any];

    /// What the command line calls it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::TakeOver => "takeover",
            Self::Panic => "panic",
            Self::Own => "own",
            Self::Application => "application",
            Self::Any => "any",
        }
    }

    /// What it is called.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of the VM",
            Self::TakeOver => "takeover by another VM",
            Self::Panic => "panic of the server's thread",
            Self::Own => "kill of a process of ours",
            Self::Application => "kill of what an application stands on",
            Self::Any => "kill of any process of the VM",
        }
    }
}

/// Something that was done, until the port mapper answered again.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub kind: Kind,
    pub begun: Instant,
    pub ended: Instant,
}

/// Who does it.
#[derive(Debug)]
pub struct Trouble<'a> {
    epmd: &'a Epmd,
    subject: &'a Subject,
    saboteurs: Saboteurs,
    chance: Chance,
    /// They close while nobody serves.
    doomed: Vec<Node>,
    /// Which process is killed next, of all.
    victim: usize,
    /// How often an application was ended.
    ended: usize,
    pub events: Vec<Event>,
}

impl<'a> Trouble<'a> {
    /// None yet.
    pub fn new(
        epmd: &'a Epmd,
        subject: &'a Subject,
        saboteurs: Saboteurs,
        mut chance: Chance,
        doomed: Vec<Node>,
    ) -> Self {
        let victim = chance.below(PROCESSES);
        Self { epmd, subject, saboteurs, chance, doomed, victim, ended: 0, events: Vec::new() }
    }

    /// Makes some, and waits until it is over.
    ///
    /// # Errors
    /// When it cannot be made, or is not over in time.
    pub fn make(&mut self, kind: Kind) -> Result<()> {
        self.epmd.faults.expect_of(kind.title().to_owned());
        self.make_one(kind).map_err(|error| self.epmd.faults.blame(&error.to_string()).into())
    }

    fn make_one(&mut self, kind: Kind) -> Result<()> {
        let vm = self.vm()?;
        let begun = Instant::now();
        match kind {
            Kind::Kill => self.kill(vm)?,
            Kind::TakeOver => self.take_over(vm)?,
            Kind::Panic => self.panic(vm)?,
            Kind::Own => self.kill_own(vm)?,
            Kind::Application => self.end_application(vm)?,
            Kind::Any => self.kill_any(vm)?,
        }
        self.epmd.info()?;
        self.events.push(Event { kind, begun, ended: Instant::now() });
        self.vm().map(drop)
    }

    /// The virtual machine that serves, once it has started wholly.
    ///
    /// # Errors
    /// When it has not in time.
    pub fn vm(&mut self) -> Result<u32> {
        let vm = self.epmd.fact("pid")?;
        self.saboteurs.await_one(vm)?;
        Ok(vm)
    }

    /// Waits until so many nodes are kept for the next virtual machine.
    ///
    /// # Errors
    /// When they are not.
    pub fn await_stored(&mut self, nodes: usize) -> Result<()> {
        let vm = self.vm()?;
        let time = await_stored(self.subject, vm, nodes)?;
        println!("all kept {} ms later", milliseconds(time));
        Ok(())
    }

    /// The creations of all names, as the virtual machine tells them.
    ///
    /// # Errors
    /// When it does not.
    pub fn creations(&mut self) -> Result<Vec<(String, u32)>> {
        let vm = self.vm()?;
        let line = self.saboteurs.order(vm, "creations")?;
        let pairs = line.split_whitespace().map(|pair| {
            let (name, creation) = pair.split_once('=')?;
            Some((name.to_owned(), creation.parse().ok()?))
        });
        pairs.collect::<Option<_>>().ok_or_else(|| "the saboteur talks nonsense".into())
    }

    fn kill(&mut self, vm: u32) -> Result<()> {
        let mut gone = Vec::new();
        if self.chance.once_in(2) {
            // Stopped it notices nothing, so that its successor has to.
            process::signal(vm, Signal::STOP)?;
            gone.extend(self.doomed.drain(..).map(|node| node.close(self.epmd, true)));
        }
        let death = self.epmd.dies();
        process::signal(vm, Signal::KILL)?;
        process::await_end(vm)?;
        self.epmd.is_gone(&death);
        for one in &gone {
            one.check(self.epmd)?;
        }
        for one in gone {
            self.doomed.push(one.register(self.epmd)?);
        }
        Ok(())
    }

    fn take_over(&mut self, vm: u32) -> Result<()> {
        self.subject.take_over()?;
        process::await_end(vm)?;
        Ok(())
    }

    fn panic(&mut self, vm: u32) -> Result<()> {
        let before = process::threads(vm, "epmd")?;
        self.saboteurs.order(vm, "panic")?;
        let begun = Instant::now();
        while process::threads(vm, "epmd")?.is_subset(&before) {
            if begun.elapsed() > RECOVERY {
                return Err("the server's thread is not replaced".into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn kill_own(&mut self, vm: u32) -> Result<()> {
        let name = self.chance.pick(&["portmapper_server", "portmapper_sup"]).unwrap_or_default();
        self.saboteurs.order(vm, &format!("kill {name}")).map(drop)?;
        Ok(())
    }

    fn end_application(&mut self, vm: u32) -> Result<()> {
        let which = ENDS.get(self.ended % ENDS.len()).copied().unwrap_or_default();
        self.ended += 1;
        self.epmd.faults.expect_of(format!("{}: {which}", Kind::Application.title()));
        let death = self.epmd.dies();
        // The virtual machine may be gone before it has answered.
        let _ = self.saboteurs.order(vm, &format!("end {which}"));
        process::await_end(vm)?;
        self.epmd.is_gone(&death);
        Ok(())
    }

    fn kill_any(&mut self, vm: u32) -> Result<()> {
        let number = self.victim;
        self.victim += 1;
        let death = self.epmd.dies();
        // The virtual machine may be gone before it has answered.
        let who = self.saboteurs.order(vm, &format!("any {number}"));
        let who = who.unwrap_or_else(|_| format!("number {number}"));
        self.epmd.faults.expect_of(format!("{}: {who}", Kind::Any.title()));
        let begun = Instant::now();
        while process::is_there(vm) && begun.elapsed() < AFTERMATH {
            sleep(Duration::from_millis(1));
        }
        self.epmd.is_gone(&death);
        Ok(())
    }

    /// Gives the nodes back that closed and registered again.
    pub fn finish(self) -> (Vec<Node>, Vec<Event>) {
        (self.doomed, self.events)
    }
}
