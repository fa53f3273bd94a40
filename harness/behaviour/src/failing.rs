//! What the system refuses a module, and at which place of a call.

use std::ffi::c_int;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// Memory: malloc, calloc, realloc, strdup and their like give nothing.
    Memory,
    /// A part of a read or a write: only half of it is done.
    Part,
    /// A read or a write, by EINTR.
    Interrupted,
    /// Space on a disk: a write, or what makes a file larger, fails with ENOSPC.
    Space,
    /// A device: a read, a write or fsync fails with EIO.
    Device,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 5] =
        [Refused::Memory, Refused::Part, Refused::Interrupted, Refused::Space, Refused::Device];

    /// As it stands in the environment.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Memory => "memory",
            Refused::Part => "part",
            Refused::Interrupted => "interrupted",
            Refused::Space => "space",
            Refused::Device => "device",
        }
    }

    /// The error that the module is told; 0 where it is told none.
    pub fn errno(self) -> c_int {
        match self {
            Refused::Memory => libc::ENOMEM,
            Refused::Part => 0,
            Refused::Interrupted => libc::EINTR,
            Refused::Space => libc::ENOSPC,
            Refused::Device => libc::EIO,
        }
    }
}

/// In every other call of a callback one thing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// What.
    pub what: Refused,
    /// The place: 1 is the first time that the module asks for it in the call.
    pub place: u32,
}

/// A word that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that can fail")]
pub struct NotFailing(String);

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what.word(), self.place)
    }
}

impl FromStr for Failing {
    type Err = NotFailing;

    fn from_str(text: &str) -> Result<Failing, NotFailing> {
        let read = || {
            let (word, place) = text.split_once(' ')?;
            let what = Refused::ALL.into_iter().find(|what| what.word() == word)?;
            Some(Failing { what, place: place.parse().ok()? })
        };
        read().ok_or_else(|| NotFailing(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_reads_back_as_written() {
        for what in Refused::ALL {
            let failing = Failing { what, place: 3 };
            assert_eq!(failing.to_string().parse(), Ok(failing));
        }
        assert!("everything 1".parse::<Failing>().is_err());
    }
}
