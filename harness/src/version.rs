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

/// A release of a server: major, minor, patch. What leads to a release comes before it and behind all that went before: the
/// patch numbers of a branch end at `DEVELOPMENT`, and those beyond count the development versions of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub u16, pub u16, pub u16);

/// Development versions of the next branch begin here, and of the next major version at the last minor number.
const DEVELOPMENT: u16 = 60000;

impl Version {
    /// The n-th development version that leads to this branch.
    fn development(major: u16, minor: u16, number: u16) -> Version {
        let number = DEVELOPMENT.saturating_add(number);
        match minor.checked_sub(1) {
            Some(before) => Version(major, before, number),
            None => Version(major.saturating_sub(1), u16::MAX, number),
        }
    }
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version such as 1.32.5")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        let error = || VersionError(text.to_owned());
        // Distributions append to the patch number: 3.2.9-1; a development version of HAProxy is 2.6-dev3.
        if let Some((branch, number)) = text.split_once("-dev") {
            let number =
                number.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok());
            let Version(major, minor, _) = branch.parse()?;
            return Ok(Version::development(major, minor, number.unwrap_or(0)));
        }
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
        match (self.1, self.2.checked_sub(DEVELOPMENT)) {
            (_, None) => write!(f, "{}.{}.{}", self.0, self.1, self.2),
            (u16::MAX, Some(number)) => write!(f, "{}.0-dev{number}", self.0.saturating_add(1)),
            (before, Some(number)) => write!(f, "{}.{}-dev{number}", self.0, before.saturating_add(1)),
        }
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
    fn a_development_version_comes_before_its_release() {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        let order = ["2.5.14", "2.6-dev3", "2.6-dev12", "2.6.0", "2.9.9", "3.0-dev1-a1b2c3", "3.0.0"];
        assert!(order.map(parse).is_sorted_by(|one, next| one < next));
        for text in ["2.6-dev3", "3.0-dev1", "3.5-dev0"] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        assert!(parse("1.9.9") < parse("1.25.8"));
        assert_eq!(parse("3.2.9-1"), Version(3, 2, 9));
        assert!("".parse::<Version>().is_err() && "1.x".parse::<Version>().is_err());
    }
}
