//! The seeds of the fuzz targets, run without a fuzzer.

#![cfg(test)]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_seed_of_bytes_holds() {
    run("bytes", targets::bytes);
}

#[test]
fn every_seed_of_sequences_holds() {
    run("sequences", targets::sequences);
}

#[test]
fn every_seed_of_histories_holds() {
    run("histories", targets::histories);
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
