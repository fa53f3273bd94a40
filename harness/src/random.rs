//! Numbers that nobody can guess.

use std::hash::{BuildHasher, Hasher};

use rustix::io::retry_on_intr;
use rustix::rand::{GetRandomFlags, getrandom};

/// Returns a number that no other run has, for names and keys; from getrandom(2), or, where a sandbox forbids that, from what the
/// standard library seeds its hashers with.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match retry_on_intr(|| getrandom(&mut bytes[..], GetRandomFlags::empty())) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => std::hash::RandomState::new().build_hasher().finish(),
    }
}
