//! What comes from somebody else: their files are read with a bound and never waited for, and their text is escaped.

pub(crate) mod bounded;
pub(crate) mod pipe;
pub(crate) mod quoted;
pub(crate) mod trust;
pub(crate) mod visible;
