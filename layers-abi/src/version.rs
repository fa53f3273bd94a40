//! Versions of nbdkit, and which of them have a filter structure that the instruments know.

use std::fmt;

/// A version of nbdkit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The first version whose filters this knows: manual contexts, and callbacks without `nxdata`.
pub const OLDEST: Version = Version { major: 1, minor: 26, patch: 0 };

/// The last stable branch whose headers were compared with these tables.
pub const NEWEST: Version = Version { major: 1, minor: 48, patch: 0 };

/// Environment variable that, set to 1, tries the newest known layout on a newer server.
pub const NEWEST_LAYOUT_VARIABLE: &str = "LAYERS_NEWEST_LAYOUT";
