//! The keeper: the parent of the virtual machine. It holds the sockets that have to
//! outlive a virtual machine that is killed, and starts the next one with them. It
//! speaks systemd's protocol (`sd_notify(3)` with its descriptor store,
//! `sd_listen_fds(3)`), so that the virtual machine does the same under both. As
//! the first process of a container it also reaps what is left to it.

mod back_off;
mod channel;
mod end;
mod held;
mod life;
mod message;

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::file_limit;
use crate::handover::Named;
use crate::service;
use crate::signals::{Signals, asks_for_end};
use crate::voice::Voice;
use back_off::BackOff;
use channel::{Channel, Datagram};
use end::End;
use held::Held;
use life::{Life, Stage};
use message::{BadMessage, Message};

/// The most descriptors that can be handed over: their names, of at most three
/// characters each, have to fit into one string of the environment.
const MAX_HELD: u64 = 32_000;

/// How long messages are left to come together, and from how many on no longer: all
/// connections come at once, after a takeover, and are safe when they are here.
const GATHERING: Duration = Duration::from_millis(10);
const MANY: usize = 8;

/// Descriptors that the keeper has open for itself: fewer than a virtual machine.
const OWN_DESCRIPTORS: u64 = 16;

/// How many descriptors a keeper holds for its virtual machine, which is not allowed
/// to have more open.
pub(crate) fn capacity() -> u64 {
    file_limit::hard().min(MAX_HELD)
}

/// What a keeper needs.
pub(crate) struct Keeper<C> {
    /// Yields the command that becomes the virtual machine.
    command: C,
    /// Whether the virtual machine ends with the keeper.
    takes_along: bool,
    voice: Voice,
    signals: Signals,
    /// Who waits for what this process tells, as the first one of a container.
    manager: Option<UnixDatagram>,
    held: Held,
    /// How many it can hold.
    room: u64,
    back_off: BackOff,
    /// Whether any virtual machine has served.
    served: bool,
    /// Whether the end of the virtual machine is the last one.
    ending: bool,
}

impl<C: Fn() -> Command> Keeper<C> {
    /// One that holds these descriptors. With `takes_along` its virtual machine ends
    /// when the keeper is killed.
    pub(crate) fn new(
        command: C,
        descriptors: Vec<Named>,
        signals: Signals,
        voice: Voice,
        takes_along: bool,
    ) -> Self {
        // If it cannot, it holds fewer.
        let _ = file_limit::raise();
        let mut held = Held::default();
        held.extend(descriptors);
        Self {
            command,
            takes_along,
            voice,
            signals,
            manager: service::manager_of_container(),
            held,
            room: capacity().saturating_sub(OWN_DESCRIPTORS),
            back_off: BackOff::default(),
            served: false,
            ending: false,
        }
    }

    /// Starts a virtual machine, and another one when it fails, until one ends in
    /// good order or an end was asked for; the exit status to end with.
    pub(crate) fn run(mut self) -> u8 {
        loop {
            let (end, served) = self.live();
            if self.ending {
                return end.status();
            }
            if !self.served {
                self.tell_of_failed_start(&end);
                return end.status();
            }
            let wait = self.back_off.after(served);
            let (count, delay) = (self.held.len(), wait.as_millis());
            self.voice.tell(&format!("{end}; the next one gets {count} sockets, in {delay} ms"));
            self.pause(wait);
            if self.ending {
                return 0;
            }
        }
    }

    /// A virtual machine from its start to its end, and for how long it has served.
    fn live(&mut self) -> (End, Duration) {
        let Self { command, held, takes_along, .. } = self;
        match Life::start(command, || held.take().collect(), *takes_along) {
            Ok(mut life) => (self.watch(&mut life), life.served()),
            Err(error) => (End::NotStarted(error), Duration::ZERO),
        }
    }

    /// Does what the virtual machine and whoever sends signals want, until it ends.
    fn watch(&mut self, life: &mut Life) -> End {
        loop {
            self.wait(Some(&life.channel), life.deadline());
            if (1..MANY).contains(&self.obey(life)) && !life.stopping {
                // Others follow at once: to be woken for each costs more than to wait.
                self.wait(None, Some(Instant::now() + GATHERING));
                self.obey(life);
            }
            for signal in self.signals.forwarded() {
                self.ending |= asks_for_end(signal);
                // It may just have ended.
                let _ = kill_process(life.vm, signal);
            }
            if let Some(status) = reap(Some(life.vm)) {
                // What it said before.
                self.obey(life);
                self.ending |= life.stopping || status.exit_status() == Some(0);
                let in_time = life.stage() != Stage::Killed;
                return if in_time { End::Ended(status) } else { End::NotInTime };
            }
            if life.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                self.move_on(life);
            }
        }
    }

    /// Sleeps until there is a message, a signal, or no more time.
    fn wait(&self, channel: Option<&Channel>, deadline: Option<Instant>) {
        let time = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let channel = channel.filter(|channel| channel.is_open());
        let sources = [Some(self.signals.as_fd()), channel.map(AsFd::as_fd)];
        let mut sources: Vec<_> =
            sources.iter().flatten().map(|source| PollFd::new(source, PollFlags::IN)).collect();
        // Whatever has come is looked for, also when this was interrupted.
        let _ = poll(&mut sources, time.as_ref());
    }

    /// Does what all messages say that have come; how many there were.
    fn obey(&mut self, life: &mut Life) -> usize {
        let mut count = 0;
        while let Some(datagram) = life.channel.receive(life.vm) {
            count += 1;
            let done = datagram.and_then(|datagram| self.follow(datagram, life));
            if let Err(error) = done {
                let text = format!("a message of the Erlang virtual machine is ignored: {error}");
                self.voice.tell(&text);
            }
        }
        count
    }

    fn follow(&mut self, datagram: Datagram, life: &mut Life) -> Result<(), BadMessage> {
        let Datagram { text, descriptors } = datagram;
        let message = Message::read(&text)?;
        if let Some(manager) = self.manager.as_ref().filter(|_| message.is_report()) {
            let _ = manager.send(&text);
        }
        if message.ready {
            life.stopping = false;
            self.served = true;
            if life.stage() != Stage::Serving {
                life.enter(Stage::Serving);
            }
            self.voice.release_all();
        }
        if message.stopping {
            life.stopping = true;
            self.held.clear();
        }
        for name in message.remove {
            self.held.remove(name);
        }
        if let Some(name) = message.store {
            if descriptors.is_empty() {
                return Err(BadMessage::NoDescriptor);
            }
            for descriptor in descriptors {
                let count = self.held.len();
                if count as u64 >= self.room {
                    return Err(BadMessage::NoRoom(count));
                }
                self.held.insert(name, descriptor);
            }
        }
        Ok(())
    }

    /// A stage has lasted for as long as it may.
    fn move_on(&mut self, life: &mut Life) {
        if life.stage() == Stage::FirstMoments {
            self.voice.release_starter();
            life.enter(Stage::Starting);
        } else {
            life.enter(Stage::Killed);
            let _ = kill_process(life.vm, Signal::KILL);
        }
    }

    /// Tells why nothing is served. In the foreground a virtual machine that ends has
    /// told it itself.
    fn tell_of_failed_start(&mut self, end: &End) {
        match (end, &self.voice) {
            (End::Ended(_), Voice::Foreground) => {}
            (End::Ended(_), Voice::Background { .. }) => self.voice.tell(&format!(
                "the Erlang virtual machine ended with status {} before it served; without \
                 -daemon it tells why",
                end.status()
            )),
            _ => self.voice.tell(&end.to_string()),
        }
    }

    /// Waits, unless the end is asked for.
    fn pause(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.ending && Instant::now() < deadline {
            self.wait(None, Some(deadline));
            self.ending |= self.signals.forwarded().any(asks_for_end);
            let _ = reap(None);
        }
    }
}

/// Reaps all that have ended; how the virtual machine did, if it is among them.
fn reap(vm: Option<Pid>) -> Option<WaitStatus> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == vm {
            ended = Some(status);
        }
    }
    ended
}
