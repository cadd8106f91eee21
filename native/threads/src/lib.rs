//! The sources of `epmd_server` where threads meet, with locks and notifications of
//! loom's in the place of the real ones: it tries every order in which threads can
//! use them.

extern crate self as parking_lot;
extern crate self as tokio;

#[path = "../../epmd_server/src/counters.rs"]
#[allow(dead_code, missing_docs, reason = "only what the others need is of interest")]
mod counters;

#[path = "../../epmd_server/src/feed.rs"]
#[allow(dead_code, missing_docs, reason = "only what threads do with it is of interest")]
mod feed;

#[path = "../../epmd_server/src/notices.rs"]
#[allow(dead_code, missing_docs, reason = "only what threads do with it is of interest")]
mod notices;

#[path = "../../epmd_server/src/quotas.rs"]
#[allow(dead_code, missing_docs, reason = "only what threads do with it is of interest")]
mod quotas;

mod following;
mod locks;
mod platform;
mod quota;
mod shared;
pub mod sync;
mod wake_up;

pub use following::{no_change_is_missed, who_waits_for_a_change_is_woken};
pub use locks::{Mutex, RwLock};
pub use quota::who_has_gone_has_no_quota;
pub use wake_up::no_wake_up_is_lost;
