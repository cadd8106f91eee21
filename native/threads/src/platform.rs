//! What the system tells: that every socket is of process 1.

use std::collections::{HashMap, HashSet};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holder;

#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpSocket {
    pub(crate) inode: u64,
    pub(crate) uid: u32,
}

pub(crate) fn holders_of(inodes: &HashSet<u64>, _first: &[i32]) -> HashMap<u64, i32> {
    inodes.iter().map(|&inode| (inode, 1)).collect()
}

pub(crate) const fn holder_with(_socket: TcpSocket, _pid: Option<i32>) -> Holder {
    Holder
}
