//! Servers and their versions, as rules are gated by them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which server is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// nbdkit.
    Nbdkit,
    /// HAProxy.
    Haproxy,
}

impl Which {
    /// Returns the name by which the command line, a trace and a baseline call it.
    pub fn name(self) -> &'static str {
        match self {
            Which::Nbdkit => "nbdkit",
            Which::Haproxy => "haproxy",
        }
    }

    /// Returns the one of this name.
    pub fn named(name: &str) -> Option<Which> {
        [Which::Nbdkit, Which::Haproxy].into_iter().find(|which| which.name() == name)
    }
}

/// A release of a server: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub u16, pub u16, pub u16);

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version such as 1.32.5")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        let error = || VersionError(text.to_owned());
        // Distributions append to the patch number: 3.2.9-1.
        let plain = text.split(['-', '+', '~']).next().unwrap_or(text);
        let numbers: Result<Vec<u16>, _> = plain.split('.').map(str::parse).collect();
        match numbers.map_err(|_| error())?[..] {
            [major, minor] => Ok(Version(major, minor, 0)),
            [major, minor, patch] => Ok(Version(major, minor, patch)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Version, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        assert!(parse("1.9.9") < parse("1.25.8"));
        assert_eq!(parse("3.2.9-1"), Version(3, 2, 9));
        assert!("".parse::<Version>().is_err() && "1.x".parse::<Version>().is_err());
    }
}
