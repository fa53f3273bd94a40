//! What a client asks of libnbd before it connects.

/// What a client wants of its connection, before it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Ask for NBD_INFO_BLOCK_SIZE.
    pub block_size: bool,
    /// Ask for NBD_INFO_NAME and NBD_INFO_DESCRIPTION.
    pub full_info: bool,
    /// Negotiate structured replies.
    pub structured_replies: bool,
    /// And with them base:allocation.
    pub meta_context: bool,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { block_size: true, full_info: true, structured_replies: true, meta_context: true }
    }
}

/// Bits of NBD_INFO types in the trace: the type's number.
pub(super) const INFO_NAME: u64 = 1 << 1;

pub(super) const INFO_DESCRIPTION: u64 = 1 << 2;

pub(super) const INFO_BLOCK_SIZE: u64 = 1 << 3;

/// What it asks to be told of an export, as those bits.
pub(super) fn infos(wishes: Wishes) -> u64 {
    let full = if wishes.full_info { INFO_NAME | INFO_DESCRIPTION } else { 0 };
    let block_size = if wishes.block_size { INFO_BLOCK_SIZE } else { 0 };
    1 | full | block_size
}
