//! nbdkit_disconnect: the end of one connection.

use layers_trace::{Callback, Event, Kind, Probe};

use super::super::connection::survival::{is_lost, is_timed_out};
use super::request::request_of;
use crate::history::{ConnectionId, History, callback_of};
use crate::rules::check::{Now, Report, Rule, Said, Watch, by, given, notes, remembering};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "disconnect.soft",
        statement: "After nbdkit_disconnect(0) requests that are running are finished and answered, and what the client sends then leads to no callback.",
        clause: "nbdkit_disconnect(3)",
        antecedent: "nbdkit_disconnect(0) while requests of that client are running, or a request that comes after it",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = ESHUTDOWN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } send NBD_CMD_READ L0.pread",
        fix: "refuse further requests of that connection with ESHUTDOWN",
        check: by!(remembering(WATCHED.enters_where(Callback::is_data).exits_where(|_| true), soft)),
        ..Rule::REQUIRED.since(1, 33, 3)
    },
    Rule {
        id: "disconnect.hard",
        statement: "After nbdkit_disconnect(1) the client gets no answer to what is in flight; callbacks that are running return all the same.",
        clause: "nbdkit_disconnect(3)",
        antecedent: "nbdkit_disconnect(1) while requests of that client are running",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=1 } } = ENOTCONN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=1 } } = 0",
        fix: "close the socket at once, and the handles when their calls have returned",
        check: by!(remembering(WATCHED, hard).and_end(hard_at_end)),
        ..Rule::REQUIRED.since(1, 33, 3)
    },
];

/// A connection that a layer has ended.
struct Ended {
    connection: ConnectionId,
    probe: Event,
    /// The call that did it, and whether that has returned: from then on the server knows.
    by: u32,
    known: Option<Event>,
    /// Requests whose calls were running: their positions, and the calls.
    running: Vec<(u32, Event)>,
}

impl Ended {
    /// A layer calls nbdkit_disconnect with this `force`, and the server has such a function.
    fn of(now: &Now<'_>, force: bool) -> Option<Ended> {
        given(now.event.probe() == Some(Probe::Disconnect) && now.event.a == 1)?;
        given((now.event.b != 0) == force)?;
        let by = now.history.thread(now.event.tid)?.stack().first()?;
        let connection = by.connection?;
        let calls = now.history.in_flight().filter(|call| call.connection == Some(connection));
        let running = calls.filter_map(|call| {
            let (_, request) = request_of(now, call)?;
            Some((request.event.position, call.enter.clone()))
        });
        let (probe, running) = (now.event.clone(), running.collect());
        Some(Ended { connection, probe, by: by.id(), known: None, running })
    }
}

const WATCHED: Watch = notes(&[Kind::Probe, Kind::Reply, Kind::Request]);

/// The calls for the request that this reply answers, where they were running when a layer ended the connection: each with
/// the record of that.
fn answered(ended: &mut [Ended], reply: &Event) -> Vec<[Event; 2]> {
    let take = |ended: &mut Ended| {
        let index = ended.running.iter().position(|(request, _)| *request == reply.call)?;
        Some([ended.running.swap_remove(index).1, ended.probe.clone()])
    };
    ended.iter_mut().filter_map(take).collect()
}

/// What is running is finished and answered; no more is begun.
fn soft(ended: &mut Vec<Ended>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let data = now.event.operation().is_some_and(|operation| callback_of(operation).is_some());
    match now.event.kind {
        Kind::Probe => ended.extend(Ended::of(now, false)),
        Kind::Reply => {
            for [call, probe] in answered(ended, now.event) {
                let expected = "a request that is running at nbdkit_disconnect(0) is answered";
                let actual = "its client has lost the connection";
                report.expect(!is_lost(now.event), (&call, &probe), expected, actual);
            }
        }
        Kind::Enter => _ = begun(ended, now, report),
        Kind::Request => {
            let client = now.connection();
            let known = |ended: &Ended| ended.known.is_some() && Some(ended.connection) == client;
            report.exercised_if(data && ended.iter().any(known));
        }
        Kind::Exit => {
            for ended in ended.iter_mut().filter(|ended| ended.by == now.event.call) {
                ended.known = Some(now.event.clone());
            }
        }
        _ => {}
    }
    Some(())
}

fn begun(ended: &[Ended], now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call?;
    let ended = ended.iter().find(|ended| Some(ended.connection) == call.connection)?;
    let (known, (_, request)) = (ended.known.as_ref()?, request_of(now, call)?);
    given(request.event.position > known.position)?;
    let expected = "a request that comes after nbdkit_disconnect(0) leads to no callback";
    let actual = format!("{} of L{} is called", call.callback, call.layer());
    report.broken((&ended.probe, request), expected, actual)
}

/// Nothing is answered any more; what is running returns.
fn hard(ended: &mut Vec<Ended>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match now.event.kind {
        Kind::Probe => ended.extend(Ended::of(now, true)),
        Kind::Reply => {
            for [call, probe] in answered(ended, now.event) {
                // A client that has given up tells nothing.
                let lost = is_lost(now.event) || now.event.result() < 0 && is_timed_out(now.event);
                let expected = "a request that is running at nbdkit_disconnect(1) gets no answer";
                report.expect(lost, (&call, &probe), expected, "it is answered");
            }
        }
        _ => {}
    }
    Some(())
}

#[expect(clippy::ptr_arg, reason = "it is what the check remembers")]
fn hard_at_end(ended: &mut Vec<Ended>, history: &History, report: &mut Report<'_>) -> Said {
    given(history.has_exited())?;
    for call in history.in_flight().filter(|call| call.callback.is_data() && call.parent.is_none()) {
        if let Some(ended) = ended.iter().find(|ended| Some(ended.connection) == call.connection) {
            let expected = "a callback that is running at nbdkit_disconnect(1) returns";
            report.broken((call, &ended.probe), expected, "it never does");
        }
    }
    Some(())
}
