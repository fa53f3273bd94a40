//! How what people are told looks, and how much of it there is.

use anstyle::{AnsiColor, Style};

use crate::outcome::{Exit, Fault, Standing};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();

/// Findings, and reasons for which nothing can be told, that are shown at length.
pub(super) const MOST_AT_LENGTH: usize = 6;
/// Other wordings or places of one finding that get a line of their own.
pub(super) const MOST_OTHERS: usize = 3;

/// How a finding is announced.
pub(super) fn word_of(fault: &Fault) -> (Style, &'static str) {
    match fault.standing {
        Standing::Habit => (ODD, "warn"),
        Standing::Ours => (BAD, "ERROR"),
        Standing::Follows => (ODD, "after"),
        Standing::Known { .. } => (ODD, "known"),
        Standing::New => (BAD, "FAIL"),
    }
}

pub(super) fn style_of(exit: Exit) -> Style {
    if exit == Exit::Conformant { GOOD } else { BAD }
}
