//! `make soak`: what dies while nodes are registered and clients look them up,
//! and that none of them notices.
//!
//!     soak rings|scale|long|table RELEASE [--KEY VALUE]...
//!
//! Fails if a client saw anything but an answer that comes later.

mod epmd;
mod faults;
mod host;
mod leaks;
mod long;
mod nodes;
mod options;
mod otp_node;
mod probe;
mod process;
mod report;
mod rings;
mod roll;
mod saboteur;
mod scale;
mod stage;
mod subject;
mod table;
mod traffic;
mod trouble;

use std::error::Error;
use std::process::ExitCode;

use options::{Options, USAGE};
use subject::Manager;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::read(std::env::args().skip(1))?;
    if options.manager != Manager::Keeper && options.text("inside").is_none() {
        return host::run(&options);
    }
    match options.mode.as_str() {
        "rings" => rings::run(&options),
        "long" => long::run(&options),
        "scale" => scale::run(&options),
        "table" => table::run(&options),
        _ => Err(USAGE.into()),
    }
}
