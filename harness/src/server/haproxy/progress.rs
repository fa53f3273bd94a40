//! What a trace of HAProxy that is still growing shows: which keywords there are, how far handlers have come, which commands
//! wait for their release.

use std::collections::HashSet;

use layers_trace::record::{Record, TEXT_CONTINUES};
use layers_trace::{Callback, Field, Kind, Writer};

/// Numbers of applets begin here.
const FIRST_APPLET: u32 = 1000;

/// Follows a trace record by record; each look costs only what is new.
#[derive(Debug, Default)]
pub struct Progress {
    next: u64,
    handled: u64,
    live: HashSet<u32>,
    keywords: Vec<String>,
    /// The record before was the registration of a keyword: its words follow.
    naming: bool,
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
            (Some(Kind::Layer), _) => self.naming = record.handle < FIRST_APPLET,
            (Some(Kind::Text), _)
                if naming
                    && Field::from_number(record.callback) == Some(Field::Keyword)
                    && record.layer & TEXT_CONTINUES == 0 =>
            {
                let bytes = record.to_bytes();
                let words = bytes.get(8..8 + usize::from(record.texts)).unwrap_or_default();
                self.keywords.push(String::from_utf8_lossy(words).into_owned());
            }
            (Some(Kind::Enter), Some(Callback::Parse | Callback::IoHandler)) => {
                self.live.insert(record.handle);
            }
            (Some(Kind::Exit), Some(Callback::IoHandler)) => self.handled += 1,
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

    /// Appctxs that have run a command and are not released.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// Words of all keywords, in the order of their registration.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }
}
