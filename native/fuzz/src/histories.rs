//! The registry beside a naive one, which the tests of `epmd_core` compare it with,
//! too.

use epmd_core::{DownReason, Registration, UnixMillis};

#[path = "../../epmd_core/tests/model/naive.rs"]
mod naive;
#[path = "../../epmd_core/tests/model/pair.rs"]
mod pair;
#[path = "../../epmd_core/tests/model/told.rs"]
pub(super) mod told;

use pair::{Op, Pair};

/// A history: how many names are remembered, and then three bytes for each thing that
/// happens: what, with which name or connection, and how.
pub fn histories(data: &[u8]) {
    let Some((&max_remembered, things)) = data.split_first() else { return };
    let mut pair = Pair::new(usize::from(max_remembered % 4));
    for &thing in things.as_chunks().0 {
        pair.step(&op(thing));
    }
}

fn op([what, which, how]: [u8; 3]) -> Op {
    let name = name(which);
    match what % 15 {
        0 | 1 => Op::Alive2(name, registration(how)),
        2 | 3 => Op::End(which.into(), reason(how)),
        4 => Op::PortPlease2(valid(name)),
        5 => Op::Names,
        6 => Op::NodeInfo(valid(name)),
        7 => Op::Dump,
        8 => Op::Kill { relaxed: how % 2 == 0 },
        9 => Op::Stop(name),
        10 => Op::RegisterVm(valid(name), registration(how)),
        11 => Op::Unregister(valid(name), reason(how)),
        12 => Op::Match(["*", "a*", "?"][usize::from(how % 3)]),
        13 => Op::Info,
        _ => Op::Clock(time(which, how)),
    }
}

/// Few names, so that many are taken; some of them are none.
fn name(which: u8) -> Vec<u8> {
    match which {
        0..250 => vec![b'a' + which % 8],
        250 => vec![],
        251 => vec![b'a', 0],
        252 => vec![0xff],
        253 => vec![b'a'; 256],
        254 => "é".repeat(255).into_bytes(),
        255 => vec![b'a'; 1021],
    }
}

/// Itself if the wire lets it through to a request of that kind, else another one.
fn valid(name: Vec<u8>) -> Vec<u8> {
    let is_valid = epmd_core::Name::new(&name).is_ok();
    if is_valid { name } else { vec![b'a'] }
}

fn registration(how: u8) -> Registration {
    let extra = if how == 255 { 1021 } else { usize::from(how % 4) };
    Registration {
        port: how.into(),
        node_type: 77,
        protocol: 0,
        highest_version: u16::from(how % 3) + 4,
        lowest_version: 5,
        extra: vec![how; extra].into(),
    }
}

fn reason(how: u8) -> DownReason {
    let reasons = [DownReason::Closed, DownReason::SurplusData, DownReason::Dropped];
    reasons[usize::from(how) % reasons.len()]
}

/// Also times from which a creation goes past its last number.
fn time(which: u8, how: u8) -> UnixMillis {
    let second = match which % 3 {
        0 => u64::from(how),
        1 => 1_700_000_000 + u64::from(how),
        _ => u64::from(u32::MAX) - u64::from(how),
    };
    UnixMillis(second * 1000)
}
