//! What a port mapper reads that the one before has left.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use epmd_server::{EstateError, Inheritance, InheritanceError};
use rustix::fs::{MemfdFlags, memfd_create};

/// Records of any bytes, or behind a good header: they are read, or refused. What
/// was written last may be cut off anywhere: that makes no record wrong.
pub fn records(data: &[u8]) {
    let Some((&cut, rest)) = data.split_last() else { return };
    let _ = read(rest);
    let mut whole = b"{\"portmapper_estate\":1,\"sequence\":7}\n".to_vec();
    let header = whole.len();
    whole.extend(rest);
    let Err(InheritanceError::Estate(EstateError::Record { line, .. })) = read(&whole) else {
        let end = header + usize::from(cut) * rest.len() / 255;
        let torn = read(whole.get(..end).unwrap_or_default());
        assert!(torn.is_ok(), "cut off after {end} bytes: {torn:?}");
        return;
    };
    // Up to that line nothing was wrong.
    let good: Vec<_> = whole.split_inclusive(|&byte| byte == b'\n').take(line - 1).collect();
    assert!(read(&good.concat()).is_ok());
}

fn read(records: &[u8]) -> Result<Inheritance, InheritanceError> {
    let mut file = File::from(memfd_create("records", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(records).unwrap();
    Inheritance::sort(vec![(OwnedFd::from(file), "1".to_owned())])
}
