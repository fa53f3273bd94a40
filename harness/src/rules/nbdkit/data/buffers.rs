//! Memory of requests that are served at the same time.

use layers_trace::{Callback, Event, Operation};

use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "data.buf.distinct",
    statement: "Reads and writes of clients that are served at the same time have buffers of their own.",
    clause: "not in the manual",
    antecedent: "two reads or writes of clients at the same time",
    good: "send NBD_CMD_READ t7: enter L0.pread buffer=7000 send NBD_CMD_READ offset=0 t8: enter L0.pread buffer=9000",
    bad: "send NBD_CMD_READ t7: enter L0.pread buffer=7000 send NBD_CMD_READ offset=0 t8: enter L0.pread buffer=7000",
    fix: "none needed where the bytes cannot be mixed up",
    check: Checker::Trace(|| Box::new(Distinct::default())),
    ..Rule::OBSERVED
}];

/// Buffers in use do not overlap.
#[derive(Default)]
struct Distinct {
    /// Enters of calls in flight.
    in_flight: Vec<Event>,
}

impl Check for Distinct {
    fn watches(&self) -> Watch {
        Watch::NONE.calls(&[Callback::Pread, Callback::Pwrite])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call.filter(|call| call.client.is_some()) else { return };
        if now.is_exit() {
            return self.in_flight.retain(|other| other.position != call.id());
        }
        // What the server reads or writes of itself has one buffer for all; the bytes do not matter.
        let request = call.client.and_then(|client| now.history.client(client)?.waits_for(call.request?));
        if !request.is_some_and(|request| matches!(request.operation, Operation::Read | Operation::Write)) {
            return;
        }
        let (start, count) = (now.event.b, u64::from(now.event.count()));
        // A thread that makes another call has left the one before, whose exit is missing.
        self.in_flight.retain(|other| other.tid != now.event.tid);
        for other in &self.in_flight {
            report.exercised();
            if other.b < start.saturating_add(count) && start < other.b.saturating_add(other.count().into()) {
                report.broken([other, now.event], "buffers that do not overlap", "they do");
            }
        }
        self.in_flight.push(now.event.clone());
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use layers_trace::{Callback, Kind, Operation};

    /// Two reads at once into these buffers.
    fn overlapping(first: u64, second: u64) -> Script {
        let good = reference();
        let at = good.index(Kind::Enter, 2, Callback::Finalize, 1) - 1;
        let handle = |script: &Script, layer: u8| {
            script.events[script.index(Kind::Enter, layer, Callback::Pread, 0)].handle
        };
        let (outer, context) =
            (handle(&good, 2), good.events[good.index(Kind::Enter, 2, Callback::Pread, 0)].context);
        good.with(at, |script| {
            let mut calls = Vec::new();
            for (tid, buffer, offset) in [(301, first, 0_u64), (302, second, 8192)] {
                let request = script.request(1, Operation::Read);
                (request.a, request.c) = (offset, 512);
                let request = request.position;
                script.tid = tid;
                let enter = script.enter(2, Callback::Pread);
                (enter.handle, enter.context) = (outer, context);
                (enter.a, enter.b, enter.c) = (offset, buffer, 512);
                calls.push((tid, request, enter.position));
            }
            for (tid, request, call) in calls {
                script.tid = tid;
                script.exit(call, 0);
                script.reply(request, 0);
            }
        })
    }

    #[test]
    fn buffers_do_not_overlap() {
        const RULE: &str = "data.buf.distinct";
        accepts(RULE, overlapping(0x1000, 0x1200));
        rejects(RULE, overlapping(0x1000, 0x1000));
        rejects(RULE, overlapping(0x1000, 0x11ff));
        rejects(RULE, overlapping(0x11ff, 0x1000));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }
}
