//! Every order in which the threads can act.

#[test]
fn an_owner_that_looks_gets_all() {
    epmd_threads::no_wake_up_is_lost(false);
}

#[test]
fn an_owner_that_follows_another_gets_all() {
    epmd_threads::no_wake_up_is_lost(true);
}
