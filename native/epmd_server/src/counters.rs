//! What was counted since the server started.

use std::sync::atomic::{AtomicU64, Ordering};

use epmd_core::{DownReason, Refusal};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines the counters once, for counting and for reporting.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
            refused: [Counter; Refusal::ALL.len()],
            ended: [Counter; DownReason::ALL.len()],
        }

        /// The counters at one moment. They add up as `docs/counters.md` says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests refused, by reason.
            pub refused: Vec<(Refusal, u64)>,
            /// Nodes that are registered no more, by reason.
            pub ended: Vec<(DownReason, u64)>,
        }

        impl Counters {
            pub(crate) fn values(&self) -> CounterValues {
                CounterValues {
                    $($name: self.$name.get(),)*
                    refused: Refusal::ALL.into_iter()
                        .zip(self.refused.iter().map(Counter::get))
                        .collect(),
                    ended: DownReason::ALL.into_iter()
                        .zip(self.ended.iter().map(Counter::get))
                        .collect(),
                }
            }
        }

        impl CounterValues {
            /// The counters without those by reason, with their names.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Requests that were answered in full, a refusal that has an answer
    /// included.
    answered,
    /// Requests that were refused without an answer.
    unanswered,
    /// Requests that were refused with an answer: registrations, and KILL.
    denied,
    /// Nodes registered, over the network or by the VM.
    registered,
    /// Nodes that the server began with: another one had registered them.
    inherited,
    /// Nodes that are registered no more.
    unregistered,
    /// Nodes whose name another one got though their connection still stood:
    /// they listened no more.
    evicted,
    /// Registrations that the descriptor store had no slot for.
    not_kept,
    /// Look-ups of a registered name, over the network.
    lookups_hit,
    /// Look-ups of any other name, over the network.
    lookups_missed,
    /// Listings: NAMES, MATCH and DUMP.
    listings,
    /// Requests to watch what happens.
    watches,
    /// Connections that were closed without a byte.
    silent,
    /// Connections closed because the request did not come in time.
    timed_out,
    /// Connections closed because the reply was not read, in time or at all.
    unread,
    /// Connections closed while they waited for their peer because descriptors, or
    /// memory for listings, ran short.
    crowded_out,
    /// Connections closed by a defect of ours.
    panicked,
    /// Times that no descriptor was left for a connection that waits.
    out_of_descriptors,
    /// What there was to tell the owner of the server.
    notices,
    /// What it took of that.
    notices_taken,
    /// What it will not hear of, because it was not taken in time.
    notices_missed,
    /// Lines that were not logged because too many are alike. The owner counts them.
    suppressed,
}

impl Counters {
    pub(crate) fn ended(&self, reason: DownReason) {
        self.unregistered.add_one();
        // `ALL` holds every reason.
        let position = DownReason::ALL.iter().position(|&one| one == reason);
        if let Some(counter) = position.and_then(|index| self.ended.get(index)) {
            counter.add_one();
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        // `ALL` holds every reason.
        let position = Refusal::ALL.iter().position(|&reason| reason == refusal);
        if let Some(counter) = position.and_then(|index| self.refused.get(index)) {
            counter.add_one();
        }
    }
}
