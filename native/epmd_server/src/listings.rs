//! Replies that wait to be read. Listings can be long, and many may ask for one and not
//! read it: those that are the same are kept once, and all together take no more than
//! [`MAX_BYTES`], or else a reader that does not read has to go for each new one.

use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use socket2::SockRef;

use crate::shared::Shared;

/// What all together take, twice as much for a moment.
const MAX_BYTES: usize = 32 << 20;

/// Shorter replies are not looked for: they cost less than what else a connection does.
const LONG: usize = 4096;

/// What the system may take of a reply until it is read, beside what it needs to keep it
/// (`net.core.wmem_max` by default). For a reader on this host it would take some
/// megabytes.
const SYSTEM_BYTES: usize = 212_992;

/// Has the system take no more of a long reply than it has to.
pub(crate) fn bound_buffer(socket: impl AsFd, reply: &[u8]) {
    if reply.len() > SYSTEM_BYTES / 4 {
        // Without it, the reply is sent too.
        let _ = SockRef::from(&socket).set_send_buffer_size(SYSTEM_BYTES);
    }
}

/// A reply, or what is left of it.
#[derive(Debug, Clone)]
pub(crate) struct WaitingReply(Arc<Bytes>);

#[derive(Debug)]
struct Bytes {
    bytes: Box<[u8]>,
    /// What all take, if this is counted.
    all: Option<Arc<AtomicUsize>>,
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

impl Deref for WaitingReply {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// One that comes with its connection from another port mapper.
impl From<Vec<u8>> for WaitingReply {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes { bytes: bytes.into(), all: None }))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    all: Arc<AtomicUsize>,
    /// The last two, one of NAMES and one of DUMP maybe.
    last: Mutex<[Weak<Bytes>; 2]>,
}

impl Listings {
    /// Keeps a reply.
    fn keep(&self, reply: &[u8]) -> WaitingReply {
        if reply.len() < LONG {
            return reply.to_vec().into();
        }
        let mut last = self.last.lock();
        let same = last.iter().filter_map(Weak::upgrade).find(|one| *one.bytes == *reply);
        WaitingReply(same.unwrap_or_else(|| {
            self.all.fetch_add(reply.len(), Ordering::Relaxed);
            let new = Arc::new(Bytes { bytes: reply.into(), all: Some(self.all.clone()) });
            let [newest, _] = std::mem::take(&mut *last);
            *last = [Arc::downgrade(&new), newest];
            new
        }))
    }

    fn bytes(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Keeps a reply until it is read, if there is memory for it.
    pub(crate) fn keep_reply(&self, reply: &[u8]) -> Option<WaitingReply> {
        let kept = self.listings.keep(reply);
        if self.listings.bytes() > MAX_BYTES {
            self.crowd.make_a_reader_go();
        }
        (self.listings.bytes() <= 2 * MAX_BYTES).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_wait_for_is_kept_once_and_given_back() {
        let listings = Listings::default();
        let (names, dump) = (vec![b'n'; 10_000], vec![b'd'; 20_000]);
        let kept: Vec<_> =
            [&names, &dump].repeat(100).into_iter().map(|one| listings.keep(one)).collect();
        assert!(kept.chunks(2).all(|two| *two[0] == names[..] && *two[1] == dump[..]));
        assert_eq!(listings.bytes(), 30_000);
        drop(kept);
        assert_eq!(listings.bytes(), 0);
    }

    #[test]
    fn a_short_reply_is_not_looked_for() {
        let listings = Listings::default();
        let kept = [b"one", b"two"].map(|reply| listings.keep(reply));
        assert_eq!((&*kept[0], &*kept[1], listings.bytes()), (&b"one"[..], &b"two"[..], 0));
    }
}
