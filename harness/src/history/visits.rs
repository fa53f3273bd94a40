//! The calls that start and end the layers: those of callbacks that belong to no connection.

use layers_trace::{Callback, Event};

/// For each layer the first enter and the last exit of each such callback.
#[derive(Debug, Default)]
pub(super) struct Visits {
    entered: Vec<Event>,
    returned: Vec<Event>,
}

fn is_of(event: &Event, layer: u8, callback: Callback) -> bool {
    event.layer == layer && event.callback() == Some(callback)
}

impl Visits {
    /// Takes the enter or exit of a call.
    pub(super) fn note(&mut self, event: &Event, callback: Callback, is_enter: bool) {
        if callback.is_connected() || callback.is_appctx() {
            return;
        }
        let same = |other: &Event| is_of(other, event.layer, callback);
        if is_enter && self.entered.iter().any(same) {
            return;
        }
        let events = if is_enter { &mut self.entered } else { &mut self.returned };
        events.retain(|other| !same(other));
        events.push(event.clone());
    }

    pub(super) fn entered(&self) -> &[Event] {
        &self.entered
    }

    pub(super) fn returned(&self, layer: u8, callback: Callback) -> Option<&Event> {
        self.returned.iter().find(|event| is_of(event, layer, callback))
    }
}
