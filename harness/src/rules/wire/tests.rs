use layers_trace::{Breach, Event, Field, Kind, Operation, Speaker};

use super::super::testing::*;

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
        assert_eq!((finding.calls.len(), finding.actual.as_str()), (2, "what it has got"));
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
