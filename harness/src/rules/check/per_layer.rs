//! What a check remembers of each layer. Stacks are short, so this is a list.

/// At most one value for each layer.
#[derive(Clone, Debug)]
pub(in crate::rules) struct PerLayer<T>(Vec<(u8, T)>);

impl<T> Default for PerLayer<T> {
    fn default() -> PerLayer<T> {
        PerLayer(Vec::new())
    }
}

impl<T> PerLayer<T> {
    /// What is remembered of this layer.
    pub(in crate::rules) fn get(&self, layer: u8) -> Option<&T> {
        self.0.iter().find(|(number, _)| *number == layer).map(|(_, value)| value)
    }

    /// Something is remembered of this layer.
    pub(in crate::rules) fn has(&self, layer: u8) -> bool {
        self.get(layer).is_some()
    }

    /// Remembers this, unless there is something already.
    pub(in crate::rules) fn keep_first(&mut self, layer: u8, value: impl FnOnce() -> T) {
        if !self.has(layer) {
            self.0.push((layer, value()));
        }
    }

    /// Remembers this instead of what there was.
    pub(in crate::rules) fn set(&mut self, layer: u8, value: T) {
        self.forget(layer);
        self.0.push((layer, value));
    }

    /// Forgets this layer.
    pub(in crate::rules) fn forget(&mut self, layer: u8) {
        self.0.retain(|(number, _)| *number != layer);
    }
}
