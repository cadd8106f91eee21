//! `make hostile`: what hostile peers do, and what a node of this host notices, with
//! ours and with C `epmd` in the same run.
//!
//!     hostile RELEASE C_EPMD
//!
//! Each may have 1,024 descriptors. It all happens in a network namespace of its own,
//! where this user may make one. Fails if ours breaks a promise: a node registers and
//! is looked up within 100 ms, no node is lost, and the port mapper goes on.

mod network;
mod peer;
mod scenes;
mod subject;
mod view;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use network::Network;
use scenes::{SCENES, Scene};
use subject::Subject;
use view::View;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: hostile RELEASE C_EPMD";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["peer", verb, server, count] => peer::play(verb, server, count).map(|()| true),
        [release, c] => network::run_inside(&words).map_or_else(|| run(release, c), Ok),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; whether ours kept all promises.
fn run(release: &str, c: &str) -> Result<bool> {
    let ours = Path::new(release).canonicalize()?.join("bin/epmd");
    let network = Network::make()?;
    let mut kept = true;
    println!("| what the peer does | with ours | with C `epmd` |\n|---|---|---|");
    for scene in SCENES {
        if scene.is_remote && network.is_none() {
            println!("| {} | not seen: no network namespaces here | |", scene.what);
            continue;
        }
        let view = see(scene, &ours, scene.arguments, network.as_ref())?;
        let theirs = see(scene, Path::new(c), &[], network.as_ref())?;
        println!("| {} | {view} | {theirs} |", scene.what);
        if let Some(broken) = view.broken_promise() {
            eprintln!("hostile: {}: {broken}", scene.what);
            kept = false;
        }
    }
    Ok(kept)
}

fn see(scene: &Scene, program: &Path, arguments: &[&str], far: Option<&Network>) -> Result<View> {
    let mut subject = Subject::start(program, arguments)?;
    let nodes = view::Nodes::register(&subject, scene.nodes)?;
    let mut peer = scene.begin(&subject, far)?;
    let view = view::watch(&subject, scene.duration, || peer.has_ended());
    drop(peer);
    Ok(nodes.judge(&mut subject, view))
}
