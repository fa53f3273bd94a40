//! The filters that are recorded.

use std::sync::OnceLock;

use layers_abi::filter::{FilterTable, FilterWords};
use layers_abi::init::MOST_FILTERS;
use layers_abi::layer::Layer;

/// One recorded filter.
pub(crate) struct Wrapped {
    pub(crate) layer: Layer,
    /// The table that is called.
    pub(crate) target: FilterTable,
    /// What the server sees.
    pub(crate) shown: FilterWords,
}

/// Layer n is at n - 1.
pub(crate) static WRAPPED: [OnceLock<Wrapped>; MOST_FILTERS as usize] =
    [const { OnceLock::new() }; MOST_FILTERS as usize];

pub(crate) fn wrapped(layer: usize) -> Option<&'static Wrapped> {
    WRAPPED.get(layer.checked_sub(1)?)?.get()
}
