//! The seeds of the fuzz targets that need the server, run without a fuzzer.

#![cfg(test)]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/records.rs"]
mod records;
#[path = "../../fuzz/src/takeover.rs"]
mod takeover;

/// One after the other: the descriptors of this process are counted.
#[test]
fn every_seed_holds() {
    run("records", records::records);
    run("takeover", takeover::takeover);
}

fn run(name: &str, target: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let mut run = 0;
    for seed in fs::read_dir(&seeds).unwrap() {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        target(&fs::read(path).unwrap());
        run += 1;
    }
    assert_ne!(run, 0, "no seeds in {}", seeds.display());
}
