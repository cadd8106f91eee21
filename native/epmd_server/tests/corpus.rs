//! The seeds of the fuzz target that needs the server, run without a fuzzer.

#![cfg(test)]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/records.rs"]
mod records;

#[test]
fn every_seed_of_records_holds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/records");
    let mut run = 0;
    for seed in fs::read_dir(&seeds).unwrap() {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        records::records(&fs::read(path).unwrap());
        run += 1;
    }
    assert_ne!(run, 0, "no seeds in {}", seeds.display());
}
