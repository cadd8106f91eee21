//! The socket at which a port mapper waits for its successor.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::TakeoverError;
use crate::TakeoverSocket;
use crate::notices::Notice;
use crate::platform;
use crate::shared::Shared;

/// The name of the file, with the port.
const NAME: &str = "takeover";

/// A socket in the file system. Dropping it removes the file, unless it is
/// another one's by then.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) listener: OwnedFd,
    path: PathBuf,
    /// Device and number.
    file: (u64, u64),
}

impl Socket {
    /// Listens where the successor of the port mapper on this port will look. A
    /// socket that somebody else has left there is replaced.
    fn open(at: &TakeoverSocket, path: PathBuf) -> io::Result<Self> {
        at.make_directory()?;
        let temporary = path.with_added_extension(std::process::id().to_string());
        // Left by a process of the same number.
        let _ = std::fs::remove_file(&temporary);
        let listener = platform::listen_at(&temporary)?;
        let named =
            file_at(&temporary).and_then(|file| std::fs::rename(&temporary, &path).map(|()| file));
        match named {
            Ok(file) => Ok(Self { listener, path, file }),
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let about = path.symlink_metadata()?;
    Ok((about.dev(), about.ino()))
}

/// Waits for a successor from now on, where it is to be waited for. A server that
/// cannot serves all the same.
pub(crate) fn open(shared: &Shared) {
    let at = shared.config.read().takeover_socket.clone();
    let Some(path) = at.path(NAME, shared.port()) else { return };
    match Socket::open(&at, path.clone()) {
        Ok(socket) => *shared.takeover.socket.lock() = Some(socket),
        Err(error) => shared.notices.push(Notice::NoTakeoverSocket {
            path,
            error: error.to_string(),
            is_required: at != TakeoverSocket::Default,
        }),
    }
}

/// Connects to the port mapper that has a port.
pub(crate) fn connect(at: &TakeoverSocket, port: u16) -> Result<OwnedFd, TakeoverError> {
    let path = at.path(NAME, port).ok_or(TakeoverError::NoSocket)?;
    platform::connect_to(&path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ACCESS | Errno::PERM) => TakeoverError::NotPermitted { path },
        _ => TakeoverError::NobodyThere { path, error },
    })
}
