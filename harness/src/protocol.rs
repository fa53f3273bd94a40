//! Numbers of the NBD protocol that clients, scenarios and rules have in common (the NBD protocol, "Command flags", "Error
//! values"). What only one of them needs stands there.

/// Flags of requests (NBD_CMD_FLAG_*).
pub mod flag {
    /// Force unit access.
    pub const FUA: u32 = 1 << 0;
    /// Zeroes, but no hole.
    pub const NO_HOLE: u32 = 1 << 1;
    /// The reply to a read comes in one piece.
    pub const DF: u32 = 1 << 2;
    /// One extent is enough.
    pub const REQ_ONE: u32 = 1 << 3;
    /// Zeroes only if that is fast.
    pub const FAST_ZERO: u32 = 1 << 4;
}

/// Transmission flags, by which a client is told what an export can do (NBD_FLAG_*; the NBD protocol, "Transmission flags").
pub mod transmission {
    /// The field has a meaning: always set.
    pub const HAS_FLAGS: u64 = 1 << 0;
    /// Nothing can be written.
    pub const READ_ONLY: u64 = 1 << 1;
    /// NBD_CMD_FLUSH.
    pub const SEND_FLUSH: u64 = 1 << 2;
    /// NBD_CMD_FLAG_FUA.
    pub const SEND_FUA: u64 = 1 << 3;
    /// The disk is one with heads that move.
    pub const ROTATIONAL: u64 = 1 << 4;
    /// NBD_CMD_TRIM.
    pub const SEND_TRIM: u64 = 1 << 5;
    /// NBD_CMD_WRITE_ZEROES.
    pub const SEND_ZERO: u64 = 1 << 6;
    /// NBD_CMD_FLAG_DF.
    pub const SEND_DF: u64 = 1 << 7;
    /// A flush of one connection counts for all.
    pub const MULTI_CONN: u64 = 1 << 8;
    /// NBD_CMD_CACHE.
    pub const SEND_CACHE: u64 = 1 << 10;
    /// NBD_CMD_FLAG_FAST_ZERO.
    pub const SEND_FAST_ZERO: u64 = 1 << 11;
}

/// Types of information, as bits of what a client asks for and of what it is told of an export (NBD_INFO_*; the NBD protocol,
/// "NBD_OPT_INFO and NBD_OPT_GO").
pub mod info {
    /// NBD_INFO_EXPORT: its size and flags.
    pub const EXPORT: u64 = 1 << 0;
    /// NBD_INFO_NAME.
    pub const NAME: u64 = 1 << 1;
    /// NBD_INFO_DESCRIPTION.
    pub const DESCRIPTION: u64 = 1 << 2;
    /// NBD_INFO_BLOCK_SIZE.
    pub const BLOCK_SIZE: u64 = 1 << 3;
}

/// The errors that a reply may have, which are numbers of Linux.
pub const ERRORS: [i32; 8] = [
    libc::EPERM,
    libc::EIO,
    libc::ENOMEM,
    libc::EINVAL,
    libc::ENOSPC,
    libc::EOVERFLOW,
    libc::ENOTSUP,
    libc::ESHUTDOWN,
];

/// Returns whether nbdkit tells a client of this error as such, or as the one of them that says the same (nbdkit-protocol(1),
/// nbdkit-plugin(3), "nbdkit_set_error"); of any other it tells EINVAL.
pub fn is_told(error: i32) -> bool {
    ERRORS.contains(&error) || [libc::EROFS, libc::EDQUOT, libc::EFBIG].contains(&error)
}

/// Bytes of the longest name of an export.
pub const LONGEST_STRING: usize = 4096;

/// Bytes of the largest request that nbdkit serves (nbdkit-plugin(3), ".pread"). A larger one it answers with an error, or, where
/// it would have to read the data of a write first, by closing the connection.
pub const MOST_SERVED: u32 = 64 << 20;

/// Bytes of the largest request that a client may send without asking: of any server it may expect that much, and no more, where
/// none has told it a maximum (the NBD protocol, "Block size constraints"). What is to be served by whatever server keeps to
/// this; what nbdkit itself promises goes up to [`MOST_SERVED`].
pub const MOST_PORTABLE: u32 = 32 << 20;

/// Returns whether a client has this error when its connection has gone.
pub fn is_gone(error: i32) -> bool {
    [libc::ENOTCONN, libc::ECONNRESET, libc::EPIPE].contains(&error)
}
