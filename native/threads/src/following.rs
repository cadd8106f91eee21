//! Who follows the registry, while others change it.

use std::collections::BTreeSet;

use epmd_core::{Event, Glob, Name};
use loom::sync::Arc;
use loom::thread;

use crate::feed::{Change, Follower};
use crate::shared::{Shared, name};

/// Takes note of what has happened, which has to follow from what was known.
fn take_in(up: &mut BTreeSet<Name>, changes: &[Change]) {
    for Change { event, .. } in changes {
        match event {
            Event::Up { name, .. } => assert!(up.insert(name.clone()), "up twice"),
            Event::Down { name, .. } => assert!(up.remove(name), "down without up"),
        }
    }
}

/// One begins to follow while another one ceases, and a node comes and another one
/// goes: what it saw at first, and every change since, are what there is.
pub fn no_change_is_missed() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        shared.register(1);
        let (_, one_before) = shared.follow(&Glob::new("*"));
        let changing = shared.clone();
        let changing = thread::spawn(move || {
            changing.register(2);
            changing.end(1);
        });
        let ceasing = thread::spawn(move || drop(one_before));
        let (snapshot, mut follower) = shared.follow(&Glob::new("*"));
        let mut up: BTreeSet<_> = snapshot.nodes.iter().map(|it| it.name().clone()).collect();
        let take = |up: &mut _, follower: &mut Follower| {
            let changes = follower.take(9).unwrap();
            assert!(changes.iter().map(|it| it.sequence).is_sorted());
            take_in(up, &changes);
        };
        take(&mut up, &mut follower);
        changing.join().unwrap();
        ceasing.join().unwrap();
        take(&mut up, &mut follower);
        assert!(up.iter().eq([&name(2)]), "{up:?}");
    });
}

/// One waits for a change, and has it then, whenever it came.
pub fn who_waits_for_a_change_is_woken() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let (_, mut follower) = shared.follow(&Glob::new("*"));
        let changing = shared.clone();
        let changing = thread::spawn(move || changing.register(1));
        loom::future::block_on(follower.changed());
        assert_eq!(follower.take(9).unwrap().len(), 1);
        changing.join().unwrap();
    });
}
