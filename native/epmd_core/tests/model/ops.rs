//! Histories to choose from.

use epmd_core::{DownReason, Registration, UnixMillis};
use proptest::prelude::*;

use crate::pair::Op;

/// Any operation, mostly on names that others have, too.
pub fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![Just(DownReason::Closed), Just(DownReason::SurplusData)];
    let out = prop_oneof![Just(DownReason::Dropped), Just(DownReason::Unregistered)];
    prop_oneof![
        6 => (any_name(), registration()).prop_map(|(name, about)| Op::Alive2(name, about)),
        2 => good_name().prop_map(Op::PortPlease2),
        1 => Just(Op::Names),
        1 => prop::sample::select(vec!["*", "?", "[a-d]", "a"]).prop_map(Op::Match),
        1 => Just(Op::Info),
        1 => good_name().prop_map(Op::NodeInfo),
        1 => Just(Op::Dump),
        1 => any::<bool>().prop_map(|relaxed| Op::Kill { relaxed }),
        2 => any_name().prop_map(Op::Stop),
        5 => (any::<u32>(), end).prop_map(|(conn, why)| Op::End(conn, why)),
        1 => (good_name(), registration()).prop_map(|(name, about)| Op::RegisterVm(name, about)),
        2 => (good_name(), out).prop_map(|(name, why)| Op::Unregister(name, why)),
        1 => clock().prop_map(Op::Clock),
    ]
}

fn good_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => (b'a'..b'i').prop_map(|letter| vec![letter]),
        1 => Just("é".repeat(255).into_bytes()),
    ]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => good_name(),
        1 => prop_oneof![
            Just(vec![]),
            Just(vec![b'a', 0]),
            Just(vec![0xff]),
            Just(vec![b'a'; 256]),
            Just("é".repeat(256).into_bytes()),
            Just(vec![0xff; 1021]),
        ],
    ]
}

fn registration() -> impl Strategy<Value = Registration> {
    let highest_version = prop_oneof![Just(0), Just(5), Just(6), any::<u16>()];
    let extra = prop_oneof![9 => 0..4_usize, 1 => 1019..1022_usize];
    (any::<(u16, u8, u8, u16)>(), highest_version, extra).prop_map(
        |((port, node_type, protocol, lowest_version), highest_version, extra)| Registration {
            port,
            node_type,
            protocol,
            highest_version,
            lowest_version,
            extra: vec![node_type; extra].into(),
        },
    )
}

/// Also times from which a creation goes past its last number.
fn clock() -> impl Strategy<Value = UnixMillis> {
    let last = u64::from(u32::MAX) * 1000;
    prop_oneof![0..9000_u64, 1_700_000_000_000..1_700_000_009_000_u64, last - 5000..last + 5000]
        .prop_map(UnixMillis)
}
