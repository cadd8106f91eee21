//! Those that stand by: they take everything over when this server stops.

use std::iter::from_fn;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::Successor;
use super::protocol::{Channel, Hello, Message, VERSION};
use crate::Server;

/// How many stand by at the most. One is enough, if it lives.
const MAX_HEIRS: usize = 8;

/// How long one may take to answer the offer. The next one may be faster.
const ANSWER: Duration = Duration::from_millis(300);

/// How long the exchange may take. It gives up before.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Those that stand by, the latest last.
#[derive(Debug, Default)]
pub(super) struct Heirs(Mutex<Vec<Heir>>);

#[derive(Debug)]
struct Heir {
    channel: Channel,
    pid: i32,
}

impl Heirs {
    /// Has one more stand by. Of too many it is let go.
    pub(super) fn add(&self, channel: Channel, pid: i32) {
        let mut heirs = self.living();
        if heirs.len() < MAX_HEIRS {
            heirs.push(Heir { channel, pid });
        }
    }

    pub(super) fn count(&self) -> usize {
        self.living().len()
    }

    /// Without those that have gone.
    fn living(&self) -> MutexGuard<'_, Vec<Heir>> {
        let mut heirs = self.0.lock();
        // They say nothing: what there is to hear is their end.
        heirs.retain(|heir| !heir.channel.has_news(Some(Duration::ZERO)));
        heirs
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    fn pop(&self) -> Option<Heir> {
        self.0.lock().pop()
    }
}

impl Heir {
    /// Whether it takes it, now.
    fn accepts(&mut self, descriptors: usize) -> bool {
        let offer = Hello { portmapper_takeover: VERSION, keeper: None, descriptors };
        self.channel.allow(ANSWER);
        self.channel.say(&Message::Offer(offer)).is_ok()
            && matches!(self.channel.hear(), Ok(Message::Prepared))
    }
}

impl Server {
    /// Hands over to one of those that [stand by](crate::StandBy), as [`Server::hand_over`]
    /// does; whether one of them serves now. If not, this one goes on.
    #[must_use]
    pub fn hand_on(&self) -> bool {
        // A thread that has died would not hear of it.
        self.resume().is_ok()
            && from_fn(|| self.shared.takeover.heirs.pop()).any(|heir| self.hand_on_to(heir))
    }

    fn hand_on_to(&self, mut heir: Heir) -> bool {
        if !heir.accepts(self.info().open_connections) {
            return false;
        }
        let (done, outcome) = mpsc::channel();
        let Heir { channel, pid } = heir;
        self.shared.order_to_hand_over(Successor::heir(channel, pid, done));
        outcome.recv_timeout(HAND_OVER).is_ok()
    }
}
