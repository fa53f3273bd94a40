//! Answers: to their end, again, and the same however they are read.

use std::time::Duration;

use super::super::bench::{Bench, Buffers, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{asked, no_answer, on_server};
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyError;
use crate::server::haproxy::asking::{Answered, Pace, difference};

/// Reads of a client that takes its time.
const SIPS: usize = 48;
/// How long a client stops reading: long enough for a handler that has an eye on the time.
const PAUSE: Duration = Duration::from_millis(700);

/// Longer than a clock of seconds stands still.
const TICK: Duration = Duration::from_millis(1100);

/// Tells whether an answer is another one a little later, though nothing has happened; one that does not come at all is none.
pub(in super::super) fn steady(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    on_server(bench, &Conditions::default(), |server| {
        let first = bench.ask(server, &asked);
        server.process.wait_until(Deadline::after(TICK), || false);
        match (first, bench.ask(server, &asked)) {
            (Answered::Whole(first), Answered::Whole(later)) if first != later => {
                Said::Unfit("what it answers differs from one second to the next".to_owned())
            }
            _ => Said::Holds,
        }
    })
}

/// An undisturbed question is answered, twice.
pub(in super::super) fn answers(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    on_server(bench, &Conditions::default(), |server| {
        for time in ["", " again"] {
            match bench.ask(server, &asked) {
                Answered::Whole(_) => {}
                // A command may wait for what nobody does here.
                Answered::Late if !entry.service => {
                    let seconds = bench.patience().as_secs();
                    return Said::Undecided(format!(
                        "no end of the answer to `{asked}`{time} within {seconds} s: does it wait for something, or need arguments (--keyword)?"
                    ));
                }
                other => return Said::broken(format!("a whole answer to `{asked}`{time}"), other.said()),
            }
        }
        Said::Holds
    })
}

/// The answer is the same however it is read, and whatever the buffers are.
pub(in super::super) fn whole(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let first = |buffers, pace, known| {
        let mut answered = Answered::Late;
        let conditions = Conditions { buffers, ..Conditions::default() };
        let said = on_server(bench, &conditions, |server| {
            answered = bench.ask_at(server, &asked, "cli", pace, known);
            Said::Holds
        })?;
        Ok::<_, HaproxyError>((said, answered))
    };
    let (_, one) = first(Buffers::Huge, Pace::Quick, None)?;
    let (_, another) = first(Buffers::Huge, Pace::Quick, None)?;
    let (Answered::Whole(one), Answered::Whole(another)) = (one, another) else {
        return Ok(Said::Unfit(no_answer(&asked)));
    };
    if one != another {
        return Ok(Said::Unfit("what it answers differs from one server to the next".to_owned()));
    }
    for (buffers, pace, how) in [
        (Buffers::Usual, Pace::Slow(SIPS), "read slowly"),
        (Buffers::Small, Pace::Quick, "through buffers of 2 KiB"),
        (Buffers::Small, Pace::Slow(SIPS), "through buffers of 2 KiB, read slowly"),
        (Buffers::Small, Pace::Pausing(PAUSE), "through buffers of 2 KiB, read after a pause"),
    ] {
        let (said, answered) = first(buffers, pace, Some(one.len()))?;
        if said != Said::Holds {
            return Ok(said);
        }
        let expected = format!("the same {} bytes {how} as at once", one.len());
        match answered {
            Answered::Whole(bytes) if bytes == one => {}
            Answered::Whole(bytes) => return Ok(Said::broken(expected, difference(&one, &bytes))),
            other => return Ok(Said::broken(expected, other.said())),
        }
    }
    Ok(Said::Holds)
}
