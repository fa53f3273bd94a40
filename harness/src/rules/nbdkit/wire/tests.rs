use layers_trace::{Breach, Event, Field, Kind, Operation, Speaker};

use crate::rules::testing::*;

/// Index of client 1's first record of this kind about this operation.
fn index(script: &Script, kind: Kind, operation: Operation) -> usize {
    let found = |event: &Event| event.kind == kind && event.operation() == Some(operation);
    script.events.iter().position(found).unwrap()
}

/// The server itself answers every request, and in structured replies where it can.
fn spoken() -> Script {
    let mut script = reference();
    for reply in script.events.iter_mut().filter(|event| event.kind == Kind::Reply) {
        reply.layer = match reply.operation() {
            Some(Operation::Read | Operation::BlockStatus) => Speaker::Structured as u8,
            Some(operation) if operation.is_data() => Speaker::Simple as u8,
            _ => 0,
        };
    }
    script
}

/// The client complains before it has the answer to this operation.
fn complaining(breach: Breach, operation: Operation) -> Script {
    let script = spoken();
    let (request, reply) = (index(&script, Kind::Request, operation), index(&script, Kind::Reply, operation));
    let call = script.events[request].position;
    script.with(reply, |script| {
        let event = script.note(Kind::Breach, breach as u8);
        (event.handle, event.call) = (1, call);
        event.texts.push(text(Field::Message, "what it has got"));
    })
}

#[test]
fn what_a_client_complains_of_is_the_servers_fault() {
    let complaints = [
        ("wire.message", Breach::Message, Operation::Read),
        ("wire.option", Breach::Option, Operation::Go),
        ("wire.one-reply", Breach::Cookie, Operation::Write),
        ("wire.one-reply", Breach::Unasked, Operation::Flush),
        ("wire.structured", Breach::Shape, Operation::Read),
        ("wire.chunk", Breach::Chunk, Operation::BlockStatus),
    ];
    for (rule, breach, operation) in complaints {
        exercised_and_holds(rule, spoken());
        rejects(rule, complaining(breach, operation));
        let said = judged(complaining(breach, operation));
        let finding = &said.result(rule).unwrap().findings[0];
        assert_eq!((finding.calls.len(), finding.actual.as_str()), (2, "\"what it has got\""));
        for (other, ..) in complaints.iter().filter(|(other, ..)| *other != rule) {
            assert_eq!(said.result(other).unwrap().broken, 0, "{breach:?} is one finding, and no {other}");
        }
    }
}

fn refused() -> Script {
    let mut script = spoken();
    let reply = index(&script, Kind::Reply, Operation::Write);
    (script.events[reply].a, script.events[reply].c) = (u64::MAX, libc::EIO.cast_unsigned());
    script
}

#[test]
fn what_is_to_be_refused_is_not_granted() {
    exercised_and_holds("wire.refusal", refused());
    rejects("wire.refusal", complaining(Breach::Granted, Operation::Write));
}

/// The client has given up waiting for the answer to this operation so many seconds after everything else.
fn given_up(operation: Operation, seconds: u64) -> Script {
    let mut script = spoken();
    let reply = index(&script, Kind::Reply, operation);
    let event = &mut script.events[reply];
    (event.a, event.c, event.layer) = (u64::MAX, libc::ETIMEDOUT.cast_unsigned(), 0);
    for event in &mut script.events[reply..] {
        event.time += seconds * 1_000_000_000;
    }
    script
}

#[test]
fn nobody_waits_in_vain_for_a_server_that_has_nothing_to_do() {
    const RULE: &str = "wire.answered";
    accepts(RULE, spoken());
    for operation in [Operation::Read, Operation::Write, Operation::Flush, Operation::List] {
        rejects(RULE, given_up(operation, 5));
        let hurried = judged(given_up(operation, 0));
        assert_eq!(hurried.result(RULE).unwrap().broken, 0, "the client has not waited for long");
    }
    // A layer is still at work, or the server has been told to stop.
    let working = {
        let script = given_up(Operation::Read, 5);
        let exit = script.index(Kind::Exit, 2, layers_trace::Callback::Pread, 0);
        let mut script = script;
        script.events.remove(exit);
        script
    };
    assert_eq!(judged(working).result(RULE).unwrap().broken, 0);
    let script = given_up(Operation::Read, 5);
    let request = index(&script, Kind::Request, Operation::Read);
    let stopped = script.with(request, |script| script.note(Kind::Signal, 0).a = 15);
    assert_eq!(judged(stopped).result(RULE).unwrap().broken, 0);
}

/// Instead of the answer to this operation the client gets the end of the connection, from a server whose layers never end
/// it, and which is told to stop afterwards.
fn cut_off(operation: Operation) -> Script {
    let mut script = spoken().settled();
    let reply = index(&script, Kind::Reply, operation);
    let event = &mut script.events[reply];
    (event.a, event.c, event.layer) = (u64::MAX, libc::ENOTCONN.cast_unsigned(), 0);
    script
}

#[test]
fn the_end_of_the_connection_is_no_answer() {
    const RULE: &str = "wire.answered";
    for operation in [Operation::Read, Operation::Flush, Operation::List, Operation::Go] {
        rejects(RULE, cut_off(operation));
    }
    let of = |script: Script| judged(script).result(RULE).unwrap().broken;
    let request = index(&cut_off(Operation::Read), Kind::Request, Operation::Read);
    let call = cut_off(Operation::Read).index(Kind::Exit, 2, layers_trace::Callback::Pread, 0);
    // The server had been told to stop; a layer has failed; the client has sent half of a write; a layer may have exited.
    let stopped = cut_off(Operation::Read).with(request, |script| script.note(Kind::Signal, 0).a = 15);
    let mut failed = cut_off(Operation::Read);
    failed.events[call].a = u64::MAX;
    let half = cut_off(Operation::Read).with(request, |script| {
        let write = script.request(1, Operation::Write);
        (write.b, write.c) = (512, 1024);
    });
    let mut exits = spoken();
    let reply = index(&exits, Kind::Reply, Operation::Read);
    (exits.events[reply].a, exits.events[reply].c) = (u64::MAX, libc::ENOTCONN.cast_unsigned());
    for (why, script) in [("stopped", stopped), ("failed", failed), ("half", half), ("exits", exits)] {
        assert_eq!(of(script), 0, "{why}");
    }
}

#[test]
fn what_is_running_is_answered_after_the_goodbye() {
    const RULE: &str = "wire.answered";
    let reading = |script: &Script| index(script, Kind::Reply, Operation::Read);
    let leaves = |at: usize, operation: Operation| {
        cut_off(Operation::Read).with(at, |script| {
            script.request(1, operation);
        })
    };
    let script = cut_off(Operation::Read);
    rejects(RULE, leaves(reading(&script), Operation::Disconnect));
    // No layer has seen the request by then; or the client has closed its socket, or its direction of it.
    let before = index(&script, Kind::Request, Operation::Read) + 1;
    accepts_silently(RULE, leaves(before, Operation::Disconnect));
    for closing in [Operation::Hangup, Operation::HalfClose] {
        accepts_silently(RULE, leaves(reading(&script), closing));
        let closed = leaves(reading(&script), Operation::Disconnect).with(reading(&script) + 1, |script| {
            script.request(1, closing);
        });
        accepts_silently(RULE, closed);
    }
    let answered = spoken().with(reading(&spoken()), |script| {
        script.request(1, Operation::Disconnect);
    });
    exercised_and_holds(RULE, answered);
}

/// The client's first option of this kind is refused.
fn denied(operation: Operation, change: impl Fn(&mut Event)) -> Script {
    let mut script = spoken();
    let (request, reply) = (index(&script, Kind::Request, operation), index(&script, Kind::Reply, operation));
    change(&mut script.events[request]);
    (script.events[reply].a, script.events[reply].c) = (u64::MAX, libc::EINVAL.cast_unsigned());
    script
}

#[test]
fn an_option_is_not_refused_for_no_reason() {
    const RULE: &str = "wire.granted";
    exercised_and_holds(RULE, spoken());
    for operation in [Operation::List, Operation::Info, Operation::Go] {
        rejects(RULE, denied(operation, |_| ()));
        accepts_silently(RULE, denied(operation, |request| request.d = 2));
        let long = text(Field::Export, &"x".repeat(5000));
        accepts_silently(RULE, denied(operation, |request| request.texts = vec![long.clone()]));
    }
    // A layer has failed for it.
    let script = denied(Operation::Go, |_| ());
    let asked = index(&script, Kind::Request, Operation::Go);
    let failing = script.with(asked + 1, |script| script.call(0, layers_trace::Callback::GetSize, -1));
    accepts_silently(RULE, failing);
    // Another list.
    let place = index(&spoken(), Kind::Request, Operation::Go);
    let again = spoken().with(place, |script| {
        let request = script.request(1, Operation::List).position;
        script.reply(request, -1).c = libc::EINVAL.cast_unsigned();
    });
    accepts_silently(RULE, again);
}

fn accepts_silently(rule: &str, script: Script) {
    assert_eq!(judged(script).result(rule).unwrap().broken, 0);
}
