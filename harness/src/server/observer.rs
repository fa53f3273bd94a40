//! What a trace that is still growing shows about the server: is it ready, what is still open?

use std::collections::{HashMap, HashSet};

use layers_trace::record::Record;
use layers_trace::{Callback, Kind, Writer};

/// Follows a trace record by record; each look costs only what is new.
#[derive(Debug, Default)]
pub struct Observer {
    next: u64,
    layers: u8,
    outermost_after_fork: Option<u8>,
    ready: Option<u32>,
    failed: Option<u32>,
    open: HashSet<u32>,
    /// Calls of `after_fork` in flight. What is opened in one is a filter's own, for the life of the server.
    forked: u32,
    data_calls: u64,
    entered: HashMap<(u8, Callback), u64>,
}

impl Observer {
    /// Takes in what has been published since the last look.
    pub fn look(&mut self, trace: &Writer) {
        // A record that is claimed and not yet published is a few instructions away: the next look has it. Those that
        // did not fit never come.
        while self.next < trace.cursor().min(trace.capacity()) {
            let Some(record) = trace.published(self.next) else { return };
            self.next += 1;
            let callback = Callback::from_number(record.callback);
            if let (Some(Kind::Enter), Some(callback)) = (Kind::from_number(record.kind), callback) {
                *self.entered.entry((record.layer, callback)).or_default() += 1;
            }
            match (Kind::from_number(record.kind), callback) {
                (Some(Kind::Layer), _) => {
                    self.layers = self.layers.saturating_add(1);
                    let has = record.a & Callback::AfterFork.bit() != 0;
                    self.outermost_after_fork = self.outermost_after_fork.max(has.then_some(record.layer));
                }
                (Some(Kind::Enter), Some(Callback::AfterFork)) => self.forked += 1,
                (Some(Kind::Exit), Some(Callback::AfterFork)) => self.forked(&record),
                (Some(Kind::Exit), Some(Callback::Open)) if record.a != 0 && self.forked == 0 => {
                    self.open.insert(record.handle);
                }
                (Some(Kind::Enter), Some(data)) if data.is_data() && record.layer == 0 => {
                    self.data_calls += 1
                }
                (Some(Kind::Exit), Some(Callback::Close)) => {
                    self.open.remove(&record.handle);
                }
                _ => {}
            }
        }
    }

    fn forked(&mut self, exit: &Record) {
        self.forked = self.forked.saturating_sub(1);
        if exit.a != 0 {
            self.failed = Some(exit.pid);
        } else if Some(exit.layer) == self.outermost_after_fork {
            self.ready = Some(exit.pid);
        }
    }

    /// Process id of the server once the outermost `after_fork` has returned: it serves clients.
    pub fn ready(&self) -> Option<u32> {
        self.ready
    }

    /// Process id of the server once some `after_fork` has failed: it is about to end.
    pub fn failed(&self) -> Option<u32> {
        self.failed
    }

    /// All of these many layers are loaded, and none tells when the server is ready, because none has `after_fork`.
    pub fn cannot_tell(&self, layers: u8) -> bool {
        self.layers == layers && self.outermost_after_fork.is_none()
    }

    /// Handles that are open now, but for those of contexts that a filter opened before there were clients.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Data callbacks that the plugin has entered so far.
    pub fn data_calls(&self) -> u64 {
        self.data_calls
    }

    /// How often this layer has entered this callback so far.
    pub fn entered(&self, layer: u8, callback: Callback) -> u64 {
        self.entered.get(&(layer, callback)).copied().unwrap_or(0)
    }
}
