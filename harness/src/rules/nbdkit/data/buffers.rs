//! Memory of requests that are served at the same time.

use layers_trace::Callback::{Pread, Pwrite};
use layers_trace::{Event, Operation};

use crate::rules::check::{Now, Report, Rule, Said, by, calls, given, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "data.buf.distinct",
    statement: "Reads and writes of clients that are served at the same time have buffers of their own.",
    clause: "not in the manual",
    antecedent: "two reads or writes of clients at the same time",
    good: "send NBD_CMD_READ t7: enter L0.pread buffer=7000 send NBD_CMD_READ offset=0 t8: enter L0.pread buffer=9000",
    bad: "send NBD_CMD_READ t7: enter L0.pread buffer=7000 send NBD_CMD_READ offset=0 t8: enter L0.pread buffer=7000",
    fix: "none needed where the bytes cannot be mixed up",
    check: by!(remembering(calls(&[Pread, Pwrite]), distinct)),
    ..Rule::OBSERVED
}];

/// Buffers in use do not overlap.
fn distinct(in_flight: &mut Vec<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|call| call.client.is_some())?;
    if now.is_exit() {
        in_flight.retain(|other| other.position != call.id());
        return None;
    }
    // What the server reads or writes of itself has one buffer for all; the bytes do not matter.
    let (_, request) = now.served_request()?;
    given(matches!(request.operation, Operation::Read | Operation::Write))?;
    let (start, count) = (now.event.b, u64::from(now.event.count()));
    // A thread that makes another call has left the one before, whose exit is missing.
    in_flight.retain(|other| other.tid != now.event.tid);
    for other in &*in_flight {
        let end = other.b.saturating_add(other.count().into());
        let holds = other.b >= start.saturating_add(count) || start >= end;
        report.expect(holds, other, "buffers that do not overlap", "they do");
    }
    in_flight.push(now.event.clone());
    Some(())
}
