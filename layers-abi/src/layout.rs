//! Where each field stands in the filter structures of a server version.
//!
//! `NBDKIT_FILTER_API_VERSION` has been 6 all the time, but fields came into the middle of `struct nbdkit_filter`
//! and `struct nbdkit_next_ops`. Every field takes eight bytes on the 64-bit machines that nbdkit's stable branches
//! support, so that an offset is eight times the number of fields before it.

use std::str::FromStr;

use crate::init::InitError;
use crate::version::{NEWEST, OLDEST, Version};

/// A field and the first stable branch (minor version) that has it.
type Field = (&'static str, u32);
const ALWAYS: u32 = 0;
/// `block_size` came with 1.30.
const BLOCK_SIZE: Field = ("block_size", 30);
/// A filter's `dump_plugin` came with 1.36.
const DUMP_PLUGIN: Field = ("dump_plugin", 36);
/// A filter's `thread_model` got an argument with 1.44, and kept its place.
const THREAD_MODEL_ARGUMENT: u32 = 44;

const fn always(name: &'static str) -> Field {
    (name, ALWAYS)
}

/// `struct nbdkit_filter`, in the order of the header.
const FILTER: [Field; FILTER_WORDS] = [
    always("_api_version"),
    always("_version"),
    always("name"),
    always("longname"),
    always("description"),
    always("load"),
    always("unload"),
    always("config"),
    always("config_complete"),
    always("config_help"),
    always("thread_model"),
    DUMP_PLUGIN,
    always("get_ready"),
    always("after_fork"),
    always("cleanup"),
    always("preconnect"),
    always("list_exports"),
    always("default_export"),
    always("open"),
    always("close"),
    always("prepare"),
    always("finalize"),
    always("get_size"),
    always("export_description"),
    BLOCK_SIZE,
    always("can_write"),
    always("can_flush"),
    always("is_rotational"),
    always("can_trim"),
    always("can_zero"),
    always("can_fast_zero"),
    always("can_extents"),
    always("can_fua"),
    always("can_multi_conn"),
    always("can_cache"),
    always("pread"),
    always("pwrite"),
    always("flush"),
    always("trim"),
    always("zero"),
    always("extents"),
    always("cache"),
];

/// `struct nbdkit_next_ops`, in the order of the header.
const NEXT_OPS: [Field; 22] = [
    always("prepare"),
    always("finalize"),
    always("get_size"),
    always("export_description"),
    BLOCK_SIZE,
    always("can_write"),
    always("can_flush"),
    always("is_rotational"),
    always("can_trim"),
    always("can_zero"),
    always("can_fast_zero"),
    always("can_extents"),
    always("can_fua"),
    always("can_multi_conn"),
    always("can_cache"),
    always("pread"),
    always("pwrite"),
    always("flush"),
    always("trim"),
    always("zero"),
    always("extents"),
    always("cache"),
];

/// Words of the longest `struct nbdkit_filter`.
pub const FILTER_WORDS: usize = 42;

/// The offsets of one structure in one version.
#[derive(Clone, Debug)]
pub struct Layout {
    fields: Vec<&'static str>,
}

impl Layout {
    fn of(fields: &[Field], minor: u32) -> Layout {
        Layout { fields: fields.iter().filter(|(_, since)| *since <= minor).map(|(name, _)| *name).collect() }
    }

    /// Which word of the structure this field is, if the version has it.
    pub fn word(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|name| *name == field)
    }

    /// Its offset in bytes.
    pub fn offset(&self, field: &str) -> Option<usize> {
        Some(self.word(field)? * size_of::<usize>())
    }

    /// Words of the (public part of the) structure.
    pub fn words(&self) -> usize {
        self.fields.len()
    }

    /// Bytes of it.
    pub fn size(&self) -> usize {
        self.words() * size_of::<usize>()
    }

    /// Names of the fields, in order.
    pub fn fields(&self) -> &[&'static str] {
        &self.fields
    }
}

/// The filter structures of one server version.
#[derive(Clone, Debug)]
pub struct FilterLayout {
    /// `struct nbdkit_filter`.
    pub filter: Layout,
    /// `struct nbdkit_next_ops`, its public part.
    pub next_ops: Layout,
    /// `thread_model` takes the model of what lies below.
    pub thread_model_takes_argument: bool,
}

impl FilterLayout {
    /// The layout for the server that calls itself `version`.
    ///
    /// A newer server than the tables know gets the newest layout if `newest_if_unknown`. Development versions
    /// (odd minor numbers) are not in the tables: fields came in the middle of a series.
    pub fn of(version: &str, newest_if_unknown: bool) -> Result<FilterLayout, InitError> {
        let parsed: Version = version.parse()?;
        let stable = Version { patch: 0, ..parsed };
        let minor = match () {
            () if stable < OLDEST => return Err(InitError::TooOld(version.to_owned())),
            () if stable <= NEWEST && parsed.minor.is_multiple_of(2) => parsed.minor,
            () if stable <= NEWEST => return Err(InitError::Development(version.to_owned())),
            () if newest_if_unknown => NEWEST.minor,
            () => return Err(InitError::TooNew(version.to_owned())),
        };
        Ok(FilterLayout {
            filter: Layout::of(&FILTER, minor),
            next_ops: Layout::of(&NEXT_OPS, minor),
            thread_model_takes_argument: minor >= THREAD_MODEL_ARGUMENT,
        })
    }
}

impl FromStr for Version {
    type Err = InitError;

    fn from_str(text: &str) -> Result<Version, InitError> {
        let mut numbers = text.trim().splitn(3, '.').map(|part| part.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor), Some(patch)) => Ok(Version { major, minor, patch }),
            _ => Err(InitError::BadVersion(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::NEWEST_LAYOUT_VARIABLE;

    #[test]
    fn versions_outside_the_tables_are_refused() {
        let error = |version: &str| FilterLayout::of(version, false).unwrap_err().to_string();
        assert!(error("1.24.6").contains("too old"));
        assert!(error("1.50.0").contains(NEWEST_LAYOUT_VARIABLE));
        assert!(error("1.35.3").contains("development version"));
        assert!(error("2").contains("not a version"));
        assert!(error("1.x.1").contains("not a version"));
        assert!(FilterLayout::of("1.50.0", true).unwrap().thread_model_takes_argument);
        assert!(FilterLayout::of("1.24.0", true).is_err());
        assert!(FilterLayout::of("1.26.0", false).is_ok());
        assert!(FilterLayout::of("1.48.1", false).is_ok());
    }
}
