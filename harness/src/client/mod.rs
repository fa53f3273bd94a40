//! Clients that drive a server, and write what they ask and are answered into the trace.

mod any_client;
pub mod asked;
pub(crate) mod breach;
pub mod haproxy_cli;
pub mod http;
pub mod nbd;
pub(crate) mod pages;
mod patience;
pub mod raw;
mod told;

use layers_trace::{Breach, Operation};

pub use any_client::Peer;

/// What went wrong at the client's end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server refused, or the client did not even ask.
    #[error("{message}")]
    Refused {
        /// Why, in words.
        message: String,
        /// `errno` that goes with it.
        errno: i32,
    },
    /// The server has sent what the protocol forbids.
    #[error("{message}")]
    Breach {
        /// Of what kind that is.
        breach: Breach,
        /// What the client has got, in words.
        message: String,
    },
    /// The connection is gone.
    #[error("the server closed the connection")]
    Gone,
    /// The deadline passed.
    #[error("no answer before the deadline")]
    Timeout,
    /// A name with a NUL byte in it.
    #[error("a name holds a NUL byte")]
    Nul,
}

impl ClientError {
    /// The error as a number, for the trace.
    fn errno(&self) -> u32 {
        match self {
            ClientError::Refused { errno, .. } => errno.cast_unsigned(),
            ClientError::Breach { .. } => libc::EPROTO.cast_unsigned(),
            ClientError::Gone => libc::ENOTCONN.cast_unsigned(),
            ClientError::Timeout => libc::ETIMEDOUT.cast_unsigned(),
            ClientError::Nul => libc::EINVAL.cast_unsigned(),
        }
    }

    /// Something that this kind of client, or a client in this state, cannot do.
    fn cannot(what: impl Into<String>) -> ClientError {
        ClientError::Refused { message: what.into(), errno: libc::EINVAL }
    }
}

/// A request of the transmission phase. Offsets and counts in bytes, flags NBD_CMD_FLAG_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// NBD_CMD_READ and so on.
    pub operation: Operation,
    /// Byte offset.
    pub offset: u64,
    /// Byte count.
    pub count: u32,
    /// NBD_CMD_FLAG_*.
    pub flags: u32,
}

/// What a write to this place carries: bytes that look random, are never zero, and at another offset are others.
fn pattern(offset: u64, length: usize) -> impl Iterator<Item = u8> {
    (0..length as u64).map(move |index| {
        let at = offset.wrapping_add(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((at ^ at >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8 | 1
    })
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn what_is_written_differs_from_place_to_place() {
        let at = |offset| pattern(offset, 512).collect::<Vec<u8>>();
        let places = (0..2048).chain((4..4096).map(|block| block * 512));
        let mut seen = std::collections::BTreeSet::new();
        for offset in places {
            assert!(at(offset).iter().all(|byte| *byte != 0));
            assert!(seen.insert(at(offset)), "{offset}");
        }
    }
}
