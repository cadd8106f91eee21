//! The crate does no I/O, and depends on nothing that could.

#![cfg(test)]

use std::process::Command;

#[test]
fn nothing_that_the_crate_depends_on_can_do_io() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-p", env!("CARGO_PKG_NAME"), "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let crates: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(crates.first(), Some(&env!("CARGO_PKG_NAME")));
    for impure in ["tokio", "rustler", "mio", "socket2", "rustix", "libc"] {
        assert!(!crates.contains(&impure), "{impure} in {crates:?}");
    }
}
