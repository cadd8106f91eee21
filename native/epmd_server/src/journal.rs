//! Records that are kept up to date, for whoever is started after this process was
//! killed: in a file of memory that goes into the descriptor store, or on disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::platform;

/// How far records may grow beyond twice their snapshot before they are written
/// anew.
const SLACK: u64 = 64 * 1024;

/// A file that begins with a snapshot; what happens since is appended.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
    /// From this length on it is to be written anew.
    long: u64,
    /// Whether a line may have been cut off: what came behind it would belong to it.
    is_torn: bool,
}

impl Journal {
    /// In memory.
    ///
    /// # Errors
    /// When the system has none to give.
    pub(crate) fn in_memory(snapshot: &[u8]) -> io::Result<Self> {
        Self::begin(platform::memory_file()?, snapshot)
    }

    /// On disk. Another file of that name is replaced once the snapshot is whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn on_disk(path: &Path, snapshot: &[u8]) -> io::Result<Self> {
        let temporary = beside(path, ".new");
        let written = create(&temporary).and_then(|file| Self::begin(file, snapshot));
        let renamed = written.and_then(|journal| fs::rename(&temporary, path).map(|()| journal));
        if renamed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        renamed
    }

    fn begin(mut file: File, snapshot: &[u8]) -> io::Result<Self> {
        file.write_all(snapshot)?;
        let length = snapshot.len() as u64;
        Ok(Self { file, length, long: 2 * length + SLACK, is_torn: false })
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Appends lines. If not, the journal is to be written anew: the system did not
    /// take them whole, or most of it tells of what is no more.
    pub(crate) fn append(&mut self, lines: &[u8]) -> bool {
        self.length += lines.len() as u64;
        if self.is_torn {
            return self.length <= self.long;
        }
        self.is_torn = self.file.write_all(lines).is_err();
        !self.is_torn && self.length <= self.long
    }

    /// It cannot be written anew now: to try with every line would take longer the
    /// more nodes there are.
    pub(crate) const fn put_off(&mut self) {
        self.long = self.length + SLACK;
    }
}

/// The file with something added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// For this user alone. What another one may have put there is not written to.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Left behind by one that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_behind_a_line_that_was_cut_off() {
        // It takes nothing.
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut journal = Journal::begin(file, b"").unwrap();
        assert!(!journal.append(b"first\n"), "it is to be written anew");
        // That failed, too; now there would be room.
        journal.put_off();
        journal.file = File::options().write(true).open("/dev/null").unwrap();
        assert!(journal.append(b"second\n") && journal.is_torn);
        let line = vec![b'x'; SLACK as usize];
        assert!(!journal.append(&line), "it is tried again");
    }

    #[test]
    fn it_is_written_anew_when_most_of_it_is_no_more() {
        let file = File::options().write(true).open("/dev/null").unwrap();
        let mut journal = Journal::begin(file, &[b'x'; 1_000]).unwrap();
        let line = [b'x'; 1_000];
        let lines = (1..).find(|_| !journal.append(&line)).unwrap();
        assert_eq!(lines, (1_000 + SLACK) / 1_000 + 1);
    }
}
