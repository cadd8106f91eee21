//! Both sides of a takeover as bytes, and where they meet. Nothing here uses the
//! code under test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use epmd_server::{Config, Notice, Phase, TakeoverSocket};

use super::served::{Served, local};
use super::wait_until;

pub const HELLO: &str = r#"{"hello":{"portmapper_takeover":1}}"#;
pub const PREPARED: &str = r#""prepared""#;

/// A directory of this user alone that goes with the test.
pub struct Place(PathBuf);

impl Default for Place {
    fn default() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("takeover-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Place {
    /// Where a successor takes over.
    pub fn path(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// A server here, or its successor.
    pub fn config(&self) -> Config {
        Config { takeover_socket: TakeoverSocket::Path(self.path()), ..local() }
    }

    /// What is in the directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Fails only if it is gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server, and where its successor takes over.
pub fn start() -> (Place, Served) {
    let place = Place::default();
    let server = Served::with(place.config());
    (place, server)
}

/// Asserts that a server has handed over, to this process, and has ended.
pub fn assert_taken_over(server: &Served) {
    wait_until("it has ended", || server.phase() == Phase::Closed);
    let pid = std::process::id() as i32;
    assert_eq!(server.notices().last(), Some(&Notice::TakenOver { pid }));
    assert_eq!((server.count(), server.info().open_connections), (0, 0));
    assert_eq!(server.info().addresses, []);
}
