//! The EPMD protocol and its registry, pure: no sockets, no clock, no threads.
//!
//! A shell around this crate reads bytes and turns them into replies:
//!
//! ```text
//! bytes --Framer--> body --Request::decode--> Request --Policy--> Registry::apply
//!                                          Reply::encode --> bytes  <--'  `--> Events
//! ```
//!
//! Sources for every protocol fact: "Distribution Protocol" in the ERTS User's
//! Guide, and OTP 25.2.3 (`erts/epmd/src/epmd_srv.c`, `lib/kernel/src/erl_epmd.erl`).
//!
//! ```
//! use epmd_core::{Caller, ConnId, Framer, Policy, Registry, Request, UnixMillis};
//!
//! let peer = "127.0.0.1:40000".parse().unwrap();
//! let conn = ConnId::new(1, 9);
//! let caller = Caller { conn, peer, epmd_port: 4369, relaxed: false, listener: None };
//! let mut registry = Registry::default();
//!
//! let body = Framer::default().push(b"\0\x03zn1").unwrap().unwrap();
//! let request = Request::decode(body).unwrap();
//! Policy::default().permit(&request, true).unwrap();
//! let mut reply = Vec::new();
//! registry.apply(&request, &caller, UnixMillis(0)).reply.encode(&mut reply);
//! assert_eq!(reply, b"w\x01"); // PORT2_RESP: no such node
//! ```

#![forbid(unsafe_code)]

mod client;
mod event;
mod frame;
mod glob;
pub mod limits;
mod name;
mod node;
mod nodes;
mod policy;
mod refusal;
mod registry;
mod reply;
mod request;
mod watch;

pub use client::{Dump, DumpedName, Facts, Listing, Response};
pub use event::{DownReason, Event};
pub use frame::Framer;
pub use glob::Glob;
pub use name::Name;
pub use node::{ConnId, Creation, Node, Owner, Registration, UnixMillis};
pub use policy::{Exposure, Policy, is_local};
pub use refusal::Refusal;
pub use registry::{Caller, Next, Outcome, Registrant, Registry, Remembered};
pub use reply::{Reply, push_fact};
pub use request::{Alive2, Request};
pub use watch::{Present, Told};
