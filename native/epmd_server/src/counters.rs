//! What was counted since the server started.

use std::sync::atomic::{AtomicU64, Ordering};

use epmd_core::Refusal;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
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
        }

        /// The counters at one moment. A connection that was accepted counts
        /// in one of `answered`, `unanswered`, `silent`, `timed_out`, `unread`
        /// and `panicked` once it no longer waits, so that with those that do
        /// they add up to `accepted`.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
            /// Requests refused, by reason.
            pub refused: Vec<(Refusal, u64)>,
        }

        impl Counters {
            pub(crate) fn values(&self) -> CounterValues {
                CounterValues {
                    $($name: self.$name.get(),)*
                    refused: Refusal::ALL.into_iter()
                        .zip(self.refused.iter().map(Counter::get))
                        .collect(),
                }
            }
        }

        impl CounterValues {
            /// The counters without those of refusals, with their names.
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
    /// Nodes registered, over the network or by the VM.
    registered,
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
    /// Connections closed by a defect of ours.
    panicked,
    /// Times that no descriptor was left for a connection that waits.
    out_of_descriptors,
}

impl Counters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        // `ALL` holds every reason.
        let position = Refusal::ALL.iter().position(|&reason| reason == refusal);
        if let Some(counter) = position.and_then(|index| self.refused.get(index)) {
            counter.add_one();
        }
    }
}
