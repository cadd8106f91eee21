//! The command line.

use bench::server::{Kind, ours};

use crate::Result;

const USAGE: &str = "usage: scale RELEASE [--nodes N] [--seconds N] [--changes N]";

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    pub release: Kind,
    /// How many nodes are held.
    pub nodes: usize,
    /// How many of them end and register again in a second.
    pub changes: u32,
    pub seconds: u64,
}

impl Options {
    /// Reads it; no more than so many nodes can be held.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(words: Vec<String>, most: usize) -> Result<Self> {
        let mut words = words.into_iter();
        let release = ours(&words.next().ok_or(USAGE)?)?;
        let mut options = Self { release, nodes: most.min(20_000), changes: 2_000, seconds: 600 };
        while let Some(key) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match key.as_str() {
                "--nodes" => options.nodes = value.parse()?,
                "--changes" => options.changes = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        if options.nodes > most {
            return Err(format!("only {most} nodes fit into the limit of open files").into());
        }
        Ok(options)
    }
}
