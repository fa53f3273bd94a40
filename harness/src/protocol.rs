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
