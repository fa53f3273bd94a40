//! Filter structures, laid out as the server wants them.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

use layers_abi::InitError;
use layers_abi::filter::FilterWords;
use layers_abi::layout::FilterLayout;
use layers_abi::version::NEWEST_LAYOUT_VARIABLE;
use layers_behaviour::VERSION_VARIABLE;

/// The version that the server calls itself, in memory that stays.
fn server_version() -> Result<&'static CStr, InitError> {
    static VERSION: OnceLock<CString> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let version = std::env::var(VERSION_VARIABLE).map_err(|_| InitError::NoVersion)?;
    let text = CString::new(version.as_str()).map_err(|_| InitError::BadVersion(version))?;
    Ok(VERSION.get_or_init(|| text))
}

pub(crate) fn newest_if_unknown() -> bool {
    std::env::var_os(NEWEST_LAYOUT_VARIABLE).is_some_and(|value| value == "1")
}

/// An empty structure for the server, and its layout.
pub(crate) fn empty(name: &'static CStr) -> Result<(FilterLayout, FilterWords), InitError> {
    let version = server_version()?;
    let layout = FilterLayout::of(&version.to_string_lossy(), newest_if_unknown())?;
    let words = FilterWords::new(&layout, version.as_ptr(), name.as_ptr());
    Ok((layout, words))
}
