//! Every order in which the threads can act.

#[test]
fn an_owner_that_looks_gets_all() {
    epmd_threads::no_wake_up_is_lost(false);
}

#[test]
fn an_owner_that_follows_another_gets_all() {
    epmd_threads::no_wake_up_is_lost(true);
}

#[test]
fn who_follows_the_registry_misses_no_change() {
    epmd_threads::no_change_is_missed();
}

#[test]
fn who_waits_for_a_change_of_the_registry_is_woken() {
    epmd_threads::who_waits_for_a_change_is_woken();
}

#[test]
fn a_node_that_ends_while_its_process_is_looked_for_counts_for_nobody() {
    epmd_threads::who_has_gone_has_no_quota();
}
