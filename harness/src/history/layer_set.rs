//! A set of layers.

/// Layers by number, a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerSet([u64; 4]);

impl LayerSet {
    pub(super) fn has(&self, layer: u8) -> bool {
        self.0.get(usize::from(layer / 64)).is_some_and(|bits| bits & (1 << (layer % 64)) != 0)
    }

    pub(super) fn add(&mut self, layer: u8) {
        if let Some(bits) = self.0.get_mut(usize::from(layer / 64)) {
            *bits |= 1 << (layer % 64);
        }
    }
}
