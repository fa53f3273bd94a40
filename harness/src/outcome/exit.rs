//! The exit codes of the command, and which of several causes wins.

use std::fmt;

use crate::campaign::halt::Halt;

macro_rules! exits {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal,)*) => {
        /// Exit codes of the command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit { $($(#[doc = $doc])* $variant = $code,)* }

        impl Exit {
            /// All of them, by number.
            pub const ALL: &[Exit] = &[$(Exit::$variant,)*];

            /// What it means, in one line.
            pub fn meaning(self) -> &'static str {
                match self { $(Exit::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

exits! {
    /// conformant: everything that was judged holds (warnings allowed)
    Conformant = 0,
    /// a documented promise was broken, or the subject crashed or hung
    Violation = 1,
    /// the command line, a name or an input file is wrong
    Usage = 2,
    /// nothing was judged
    NothingJudged = 3,
    /// the baseline lists failures that no longer occur
    Stale = 4,
    /// the subject cannot be loaded
    Unloadable = 5,
    /// the server is missing or cannot be used
    NoServer = 6,
    /// inconclusive: something could not be judged that was to be; the last line says what
    Inconclusive = 7,
    /// the harness itself failed
    Harness = 70,
    /// interrupted by Ctrl-C (SIGINT): everything found so far was told
    Interrupted = 130,
    /// told to stop by SIGTERM: everything found so far was told
    Terminated = 143,
}

impl Exit {
    /// With several causes, the first of these wins.
    const PRECEDENCE: &[Exit] = &[
        Exit::Interrupted,
        Exit::Terminated,
        Exit::Usage,
        Exit::NoServer,
        Exit::Unloadable,
        Exit::Violation,
        Exit::Harness,
        Exit::Inconclusive,
        Exit::Stale,
        Exit::NothingJudged,
        Exit::Conformant,
    ];

    /// The code of a run that this signal has ended.
    pub fn of_signal(signal: i32) -> Exit {
        if signal == libc::SIGINT { Exit::Interrupted } else { Exit::Terminated }
    }

    /// The code of several causes together.
    pub fn of(causes: impl IntoIterator<Item = Exit>) -> Exit {
        let rank = |exit: &Exit| Exit::PRECEDENCE.iter().position(|one| one == exit);
        causes.into_iter().min_by_key(rank).unwrap_or(Exit::NothingJudged)
    }

    /// What it means for a run with so many findings that are known, and so do not count.
    pub fn meaning_except(self, known: usize) -> String {
        match (self, known) {
            (Exit::Conformant, 1) => "conformant except 1 known finding".to_owned(),
            (Exit::Conformant, 2..) => format!("conformant except {known} known findings"),
            _ => self.meaning().to_owned(),
        }
    }

    /// Says which of several causes wins, in one sentence.
    pub fn precedence() -> String {
        let of_signals = |exit: &&Exit| matches!(exit, Exit::Interrupted | Exit::Terminated);
        let codes = Exit::PRECEDENCE.iter().filter(|exit| !of_signals(exit));
        let codes: Vec<String> = codes.map(|exit| exit.code().to_string()).collect();
        format!("With several causes the first of {} wins.", codes.join(", "))
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// How a run has ended: what its exit code follows from besides what was found in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunEnd {
    /// What has ended it before everything was judged.
    pub halt: Option<Halt>,
    /// Something was judged.
    pub judged: bool,
    /// The baseline lists what did not happen.
    pub stale: bool,
}

impl RunEnd {
    /// The exit code of a run in which the verdicts and findings ask for these.
    pub fn exit(self, causes: impl IntoIterator<Item = Exit>) -> Exit {
        if let Some(Halt::Signal(signal)) = self.halt {
            return Exit::of_signal(signal);
        }
        let floor = if self.judged { Exit::Conformant } else { Exit::NothingJudged };
        Exit::of(causes.into_iter().chain(self.stale.then_some(Exit::Stale)).chain([floor]))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}  {}", self.code(), self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_cause_wins() {
        assert_eq!(Exit::of([Exit::Conformant, Exit::Inconclusive, Exit::Violation]), Exit::Violation);
        assert_eq!(Exit::of([Exit::Harness, Exit::Violation]), Exit::Violation, "70 hides no violation");
        assert_eq!(Exit::of([Exit::Inconclusive, Exit::Harness]), Exit::Harness);
        assert_eq!(Exit::of([Exit::Stale, Exit::Conformant]), Exit::Stale);
        assert_eq!(Exit::of([]), Exit::NothingJudged, "zero cases are never a pass");
    }

    #[test]
    fn every_code_has_a_rank() {
        assert_eq!(Exit::ALL.len(), Exit::PRECEDENCE.len());
        assert_eq!(Exit::precedence(), "With several causes the first of 2, 6, 5, 1, 70, 7, 4, 3, 0 wins.");
    }
}
