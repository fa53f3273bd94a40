//! Why a script went no further: a wrong answer, a refusal, or an end that nobody has asked for.

use std::fmt;

use layers_trace::Operation;

use super::origin::Origin;
use crate::foreign::visible::visible;

/// Why a script went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Stop {
    /// An answer is wrong.
    Wrong(Wrong),
    /// A request, or opening the export, was refused.
    Refused(Refusal),
    /// What a step asks for is nothing that this connection was told it may ask for, although the first one was; or what it
    /// has found is another check's business.
    Changed(String),
    /// The server has ended in good order, as a module may ask it to.
    Ended,
    /// No answer came before the deadline, to this.
    NoAnswer(String),
    /// No answer came soon, to this, which may take long.
    Slow(String),
    /// The server closed the connection, in the middle of this.
    Gone(String),
    /// What the server holds cannot be seen.
    Unmeasured,
    /// The script speaks of a client that is not connected.
    Unconnected(u32),
    /// The socket of the server was removed.
    NoSocket,
    /// The system had no more threads or descriptors for the clients, at this.
    Short(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Wrong(wrong) => f.write_str(&wrong.actual),
            Stop::Refused(refusal) => f.write_str(&refusal.how),
            Stop::Changed(how) => f.write_str(how),
            Stop::Ended => f.write_str(ENDED),
            Stop::Unmeasured => f.write_str(UNMEASURED),
            Stop::Unconnected(number) => {
                write!(f, "the script speaks of client {number}, which is not connected")
            }
            Stop::NoSocket => f.write_str("the socket of the server was removed"),
            Stop::Short(what) => write!(f, "the system had no more for the client (see ulimit): {what}"),
            Stop::NoAnswer(what) => write!(f, "no answer to `{what}`"),
            Stop::Slow(what) => write!(f, "no answer to `{what}` so soon"),
            Stop::Gone(what) => write!(f, "the connection ended at `{what}`"),
        }
    }
}

/// What is said where /proc does not show what a server holds.
const UNMEASURED: &str = "what the server holds cannot be seen in /proc";

/// What is said of a script that a module has cut short with nbdkit_shutdown.
const ENDED: &str = "the server has ended in good order, on a module's request";

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Refusal {
    /// Which kind of thing.
    pub(in crate::validate) asked: Asked,
    /// What exactly, and with which error.
    pub(in crate::validate) how: String,
}

/// What a client may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Asked {
    /// To connect, or to open an export.
    Open,
    /// The list of exports.
    List,
    /// A request.
    Request(Operation),
    /// Anything else: a string that the protocol has no room for.
    Other,
}

/// What was expected of the last step, and what came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// By the model.
    pub expected: String,
    /// By the subject.
    pub actual: String,
    /// Bytes of the disk that it is about.
    pub range: Option<(u64, u64)>,
    /// How it shows.
    pub(in crate::validate) symptom: Symptom,
    /// Where wrong bytes come from.
    pub(in crate::validate) origin: Option<Origin>,
}

/// How something wrong shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Symptom {
    /// A byte reads wrongly; it was only read before, and nobody knows what it must be.
    Data {
        /// Nobody has written it.
        learnt: bool,
    },
    /// An extent says that it is zero, and a byte in it is not.
    ToldZero,
    /// A byte reads wrongly among many requests at once, and also where there is only one at a time.
    Alone,
    /// A client is refused.
    Refused(Asked),
    /// Otherwise.
    Other,
}

impl Symptom {
    /// Returns true where bytes, or what is said of them, are not what they must be.
    pub(in crate::validate) fn is_of_bytes(self) -> bool {
        matches!(self, Symptom::Data { .. } | Symptom::ToldZero | Symptom::Alone)
    }
}

impl Wrong {
    /// About no bytes in particular.
    pub(in crate::validate) fn new(expected: impl Into<String>, actual: impl Into<String>) -> Wrong {
        let (expected, actual) = (expected.into(), actual.into());
        Wrong {
            expected: visible(&expected).into_owned(),
            actual: visible(&actual).into_owned(),
            range: None,
            symptom: Symptom::Other,
            origin: None,
        }
    }
}
