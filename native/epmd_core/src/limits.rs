//! Tags, limits and defaults of the wire. Each names its source in OTP's
//! `erts/epmd/src/epmd.h` and `epmd_int.h`.

/// The port that nodes expect their port mapper on (`EPMD_PORT_NO`).
pub const DEFAULT_PORT: u16 = 4369;

/// Seconds that a connection may be silent before its request is complete
/// (`CLOSE_TIMEOUT`).
pub const DEFAULT_PACKET_TIMEOUT: u32 = 60;

/// Bytes in a name, and in the extra data of a registration (`MAXSYMLEN`).
pub const MAX_NAME_BYTES: usize = 255 * 4;

/// Characters in a name (`node_reg2` in `epmd_srv.c`).
pub const MAX_NAME_CHARS: usize = 255;

/// Bytes in the extra data of a registration (`MAXSYMLEN`).
pub const MAX_EXTRA_BYTES: usize = MAX_NAME_BYTES;

/// Bytes of the length field that every request starts with.
pub const LENGTH_BYTES: usize = 2;

/// The greatest value of the length field: with the field itself the request
/// must stay below `INBUF_SIZE`, 3*1020 bytes.
pub const MAX_REQUEST_LENGTH: usize = 3 * MAX_NAME_BYTES - 3;

/// Bytes in the longest request, its length field included. No read takes more
/// (`INBUF_SIZE` less one in `do_read`), so a surplus behind it never shows.
pub const MAX_REQUEST_BYTES: usize = LENGTH_BYTES + MAX_REQUEST_LENGTH;

/// Bytes that are taken in of what a registered node sends, which ends its
/// registration (`INBUF_SIZE` in `do_read`).
pub const MAX_SURPLUS_BYTES: usize = 3 * MAX_NAME_BYTES;

/// The number of remembered names from which on a new name makes the oldest
/// be forgotten, so that one more can be seen (`MAX_UNREG_COUNT`).
pub const MAX_REMEMBERED: u32 = 1000;

/// The same when debugging (`DEBUG_MAX_UNREG_COUNT`).
pub const DEBUG_MAX_REMEMBERED: u32 = 5;

/// Addresses that one port mapper may listen on (`MAX_LISTEN_SOCKETS`).
pub const MAX_ADDRESSES: usize = 16;

/// The creation in the reply to a refused registration.
pub const REFUSED_CREATION: u32 = 99;

/// Nodes whose highest version is at least this get a 32-bit creation, in an
/// `ALIVE2_X_RESP`; older ones get 16 bits in an `ALIVE2_RESP`.
pub const VERSION_WITH_WIDE_CREATION: u16 = 6;

/// The body of a request for INFO, of ours alone. Any other with its first byte as
/// the tag is an unknown request, as to C `epmd`.
pub const INFO: &[u8] = b"info";

/// The same about a node, whose name follows.
pub const INFO_OF: &[u8] = b"info ";

/// Tags: the first byte of each request and of those replies that have one.
pub mod tag {
    /// `EPMD_ALIVE2_REQ`
    pub const ALIVE2: u8 = b'x';
    /// `EPMD_ALIVE2_RESP`
    pub const ALIVE2_RESP: u8 = b'y';
    /// `EPMD_ALIVE2_X_RESP`
    pub const ALIVE2_X_RESP: u8 = b'v';
    /// `EPMD_PORT2_REQ`
    pub const PORT_PLEASE2: u8 = b'z';
    /// `EPMD_PORT2_RESP`
    pub const PORT2_RESP: u8 = b'w';
    /// `EPMD_NAMES_REQ`
    pub const NAMES: u8 = b'n';
    /// `EPMD_DUMP_REQ`
    pub const DUMP: u8 = b'd';
    /// Ours alone, as the first letter of [`INFO`](super::INFO).
    pub const INFO: u8 = b'i';
    /// Ours alone: NAMES with a pattern.
    pub const MATCH: u8 = b'M';
    /// Ours alone: what happens to names that match a pattern.
    pub const WATCH: u8 = b'W';
    /// `EPMD_KILL_REQ`
    pub const KILL: u8 = b'k';
    /// `EPMD_STOP_REQ`
    pub const STOP: u8 = b's';
}
