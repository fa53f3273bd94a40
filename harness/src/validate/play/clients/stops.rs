//! What an answer that is none, or a wrong one, stops a script with.

use crate::client::nbd::ClientError;
use crate::protocol::is_gone;
use crate::validate::play::disk_model::Difference;
use crate::validate::play::origin::{Change, Origin};
use crate::validate::play::stop::{Asked, Refusal, Stop, Symptom, Wrong};

/// What went on, for a client that got no proper answer.
pub(super) fn stop(asked: Asked, what: impl ToString, error: ClientError) -> Stop {
    let what = what.to_string();
    let refused = |how| Stop::Refused(Refusal { asked, how });
    match error {
        ClientError::Timeout => Stop::NoAnswer(what),
        ClientError::Gone => Stop::Gone(what),
        // No server answers with these.
        ClientError::Refused { message, errno: libc::EMFILE | libc::ENFILE } => {
            Stop::Short(format!("{what} ({message})"))
        }
        ClientError::Refused { message, errno } if is_gone(errno) || errno == libc::ECONNREFUSED => {
            Stop::Gone(format!("{what} ({message})"))
        }
        ClientError::Refused { errno, .. } => refused(format!("`{what}` fails with {}", named(errno))),
        ClientError::Breach { message, .. } => Stop::Gone(format!("{what} ({message})")),
        ClientError::Nul => refused(format!("`{what}`: {error}")),
    }
}

/// Being refused is as good as not.
pub(super) fn perhaps(outcome: Result<(), Stop>) -> Result<(), Stop> {
    match outcome {
        Err(Stop::Refused(_)) => Ok(()),
        other => other,
    }
}

/// Neither what is refused nor what is wrong is asked for.
pub(super) fn whatever(outcome: Result<(), Stop>) -> Result<(), Stop> {
    match outcome {
        Err(Stop::Refused(_) | Stop::Wrong(_)) => Ok(()),
        other => other,
    }
}

/// The name of an error number, where the protocol has it.
fn named(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EIO => "EIO",
        libc::ENOMEM => "ENOMEM",
        libc::EINVAL => "EINVAL",
        libc::ENOSPC => "ENOSPC",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::ENOTSUP => "ENOTSUP",
        libc::ESHUTDOWN => "ESHUTDOWN",
        _ => return format!("error {errno}"),
    };
    name.to_owned()
}

pub(super) fn wrong(expected: impl Into<String>, actual: impl Into<String>, range: (u64, u64)) -> Stop {
    Stop::Wrong(Wrong { range: Some(range), ..Wrong::new(expected, actual) })
}

/// What was read from `start` on differs, after these changes of the disk.
pub(super) fn differs_from(difference: Difference, changes: &[Change], start: u64, bytes: &[u8]) -> Stop {
    let at = usize::try_from(difference.offset.saturating_sub(start)).unwrap_or(usize::MAX);
    let origin = Origin::of(changes, difference.offset, bytes.get(at..).unwrap_or_default());
    match differs(difference) {
        Stop::Wrong(wrong) => Stop::Wrong(Wrong { origin, ..wrong }),
        other => other,
    }
}

pub(super) fn differs(difference: Difference) -> Stop {
    let Difference { offset, expected, actual, learnt } = difference;
    let expected = format!("byte {offset} of the disk reads as {expected:#04x}");
    let wrong = Wrong::new(expected, format!("it reads as {actual:#04x}"));
    Stop::Wrong(Wrong { range: Some((offset, 1)), symptom: Symptom::Data { learnt }, ..wrong })
}
