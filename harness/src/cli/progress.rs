//! One line on a terminal that tells how far a run is; nothing anywhere else.

use std::io::{IsTerminal, Write, stderr};

/// Columns that every terminal has.
const WIDTH: usize = 79;

/// Standard error, if it is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { shown: stderr().is_terminal() }
    }

    /// `done` of `all` are over, and this is what comes next, or has come last.
    pub(super) fn show(&self, done: usize, all: usize, what: &str) {
        if self.shown {
            let line: String = format!("{done}/{all} {what}").chars().take(WIDTH).collect();
            // That nobody can be told is no reason to end.
            let _ = write!(stderr(), "\r\x1b[K{line}").and_then(|()| stderr().flush());
        }
    }

    /// Before something else is printed.
    pub(super) fn clear(&self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
