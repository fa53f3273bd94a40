//! What is known to go wrong with a given version of a server: reviewed, and explained entry by entry.
//!
//! The baselines of servers that this project has run are embedded; see docs/baseline.md.

mod entry;
mod file;
mod listed;

use std::path::Path;

use crate::foreign::bounded;
use crate::version::Version;

pub use entry::{Baseline, Entry, How};
pub use file::BaselineError;
#[cfg(test)]
pub(crate) use file::parse;

/// Server, version and text of each embedded baseline.
const EMBEDDED: &[(&str, Version, &str)] = &[
    ("nbdkit", Version(1, 32, 5), include_str!("../scenario/baseline/nbdkit-1.32.5.toml")),
    ("nbdkit", Version(1, 42, 3), include_str!("../scenario/baseline/nbdkit-1.42.3.toml")),
    ("nbdkit", Version(1, 48, 1), include_str!("../scenario/baseline/nbdkit-1.48.1.toml")),
    ("haproxy", Version(2, 2, 9), include_str!("../scenario/baseline/haproxy-2.2.9.toml")),
    ("haproxy", Version(2, 6, 12), include_str!("../scenario/baseline/haproxy-2.6.12.toml")),
    ("haproxy", Version(3, 0, 11), include_str!("../scenario/baseline/haproxy-3.0.11.toml")),
    ("haproxy", Version(3, 2, 26), include_str!("../scenario/baseline/haproxy-3.2.26.toml")),
];

impl Baseline {
    /// The embedded one of this version; `None` when there is none.
    pub fn embedded(server: &str, version: Version) -> Result<Option<Baseline>, BaselineError> {
        let found = EMBEDDED.iter().find(|(name, of, _)| *name == server && *of == version);
        found
            .map(|(_, _, text)| file::parse(text, &format!("{server}-{version}.toml"), server, version))
            .transpose()
    }

    /// The one in this file, which must be of this server and version.
    pub fn load(path: &Path, server: &str, version: Version) -> Result<Baseline, BaselineError> {
        let shown = path.display().to_string();
        let text = bounded::text(path)
            .map_err(|source| BaselineError::Unreadable { file: shown.clone(), source })?;
        file::parse(&text, &shown, server, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rate_that_tells_makes_a_race_none() {
        let race = |seen, tries| How::Race { seen, tries };
        assert!(!race(19, 28).is_hardly_there(0, 1), "none of one says nothing");
        assert!(race(150, 150).is_hardly_there(0, 25));
        assert!(race(935, 1250).is_hardly_there(0, 25));
        assert!(!race(935, 1250).is_hardly_there(1, 25), "it is still there");
        assert!(!race(935, 1250).is_hardly_there(25, 25), "more often than ever is no news");
        assert!(!race(22, 368).is_hardly_there(0, 25), "at that rate it may well stay away so often");
        assert!(!race(1, 2).is_hardly_there(0, 3), "the baseline has seen too little itself");
        assert!(!How::Deterministic.is_hardly_there(0, 25));
    }

    #[test]
    fn every_embedded_baseline_can_be_read() {
        for (server, version, _) in EMBEDDED {
            let baseline = Baseline::embedded(server, *version).unwrap().unwrap();
            assert!(!baseline.entries.is_empty(), "{server} {version}");
        }
        assert_eq!(Baseline::embedded("nbdkit", Version(1, 0, 0)).unwrap(), None);
    }
}
