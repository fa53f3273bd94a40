//! What a trace of HAProxy that is still growing shows: which keywords there are, how far handlers have come, which commands
//! wait for their release.

use std::collections::{BTreeMap, HashSet};

use layers_trace::appctx::FIRST_APPLET;
use layers_trace::record::{Record, TEXT_CONTINUES};
use layers_trace::{Callback, Field, Kind, Probe, Writer};

/// Follows a trace record by record; each look costs only what is new.
#[derive(Debug, Default)]
pub struct Progress {
    next: u64,
    handled: u64,
    /// Calls that have returned, by appctx: of its commands' handlers, or of its applet's function.
    by_appctx: BTreeMap<u32, Calls>,
    live: HashSet<u32>,
    keywords: Vec<String>,
    /// Those of them that have an `io_handler`.
    handled_keywords: Vec<String>,
    last_process: Option<u32>,
    allocated: Option<u64>,
    /// The record before was the registration of a keyword: its words follow.
    naming: bool,
    /// That keyword has an `io_handler`.
    handles: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    handler: u64,
    applet: u64,
}

impl Progress {
    /// Takes in what has been published since the last look.
    pub fn look(&mut self, trace: &Writer) {
        while self.next < trace.cursor().min(trace.capacity()) {
            let Some(record) = trace.published(self.next) else { return };
            self.next += 1;
            self.take(&record);
        }
    }

    fn take(&mut self, record: &Record) {
        let callback = Callback::from_number(record.callback);
        let naming = std::mem::replace(&mut self.naming, false);
        match (Kind::from_number(record.kind), callback) {
            (Some(Kind::Layer), _) => {
                self.naming = record.handle < u32::from(FIRST_APPLET);
                self.handles = record.a & Callback::IoHandler.bit() != 0;
            }
            (Some(Kind::Text), _)
                if naming
                    && Field::from_number(record.callback) == Some(Field::Keyword)
                    && record.layer & TEXT_CONTINUES == 0 =>
            {
                let bytes = record.to_bytes();
                let words = bytes.get(8..8 + usize::from(record.texts)).unwrap_or_default();
                let words = String::from_utf8_lossy(words).into_owned();
                self.handled_keywords.extend(self.handles.then(|| words.clone()));
                self.keywords.push(words);
            }
            (Some(Kind::Probe), _) if Probe::from_number(record.callback) == Some(Probe::Allocated) => {
                self.allocated = (record.a == 1).then_some(record.b);
            }
            (Some(Kind::Enter), Some(Callback::Parse | Callback::IoHandler)) => {
                self.live.insert(record.handle);
                self.last_process = Some(record.pid);
            }
            (Some(Kind::Exit), Some(Callback::IoHandler)) => {
                self.handled += 1;
                self.by_appctx.entry(record.handle).or_default().handler += 1;
            }
            (Some(Kind::Exit), Some(Callback::Fct)) => {
                self.by_appctx.entry(record.handle).or_default().applet += 1;
            }
            (Some(Kind::Exit), Some(Callback::Release)) => {
                self.live.remove(&record.handle);
            }
            _ => {}
        }
    }

    /// Calls of `io_handler` that have returned.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// The youngest appctx that has been called; ids grow.
    pub fn youngest(&self) -> u32 {
        self.by_appctx.keys().next_back().copied().unwrap_or(0)
    }

    /// Calls of handlers that have returned, of appctxs younger than this one.
    pub fn handled_since(&self, appctx: u32) -> u64 {
        self.by_appctx.range(appctx.saturating_add(1)..).map(|(_, calls)| calls.handler).sum()
    }

    /// Calls of applets' functions that have returned, of appctxs younger than this one.
    pub fn served_since(&self, appctx: u32) -> u64 {
        self.by_appctx.range(appctx.saturating_add(1)..).map(|(_, calls)| calls.applet).sum()
    }

    /// Appctxs that have run a command and are not released.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// The process that ran the last command.
    pub fn last_process(&self) -> Option<u32> {
        self.last_process
    }

    /// Bytes of memory that were in use when the server was asked last.
    pub fn allocated(&self) -> Option<u64> {
        self.allocated
    }

    /// Words of the keywords that have an `io_handler`, likewise.
    pub fn handled_keywords(&self) -> &[String] {
        &self.handled_keywords
    }

    /// Words of all keywords, in the order of their registration.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }
}
