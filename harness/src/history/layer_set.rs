//! A set of layers.

/// Layers by number, a bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayerSet([u64; 4]);

impl LayerSet {
    pub(super) fn has(&self, layer: u8) -> bool {
        self.0.get(usize::from(layer / 64)).is_some_and(|bits| bits & (1 << (layer % 64)) != 0)
    }

    pub(super) fn has_above(&self, layer: u8) -> bool {
        let index = usize::from(layer / 64);
        let beside = self.0.get(index).is_some_and(|bits| bits >> (layer % 64) > 1);
        beside || self.0.iter().skip(index + 1).any(|bits| *bits != 0)
    }

    pub(super) fn add(&mut self, layer: u8) {
        if let Some(bits) = self.0.get_mut(usize::from(layer / 64)) {
            *bits |= 1 << (layer % 64);
        }
    }
}
