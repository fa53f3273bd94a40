//! The plugin that is recorded.

use std::sync::OnceLock;

use layers_abi::layer::Layer;
use layers_abi::plugin::Plugin;

/// The plugin's number among the layers.
pub(crate) const LAYER: u8 = 0;

/// The recorded plugin.
pub(crate) struct Wrapped {
    pub(crate) layer: Layer,
    /// The table that is called.
    pub(crate) target: Plugin,
    /// It is the one in this crate.
    pub(crate) is_reference: bool,
}

pub(crate) static WRAPPED: OnceLock<Wrapped> = OnceLock::new();

pub(crate) fn wrapped() -> Option<&'static Wrapped> {
    WRAPPED.get()
}
