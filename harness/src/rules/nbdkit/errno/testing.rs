//! Traces in which requests fail.

use layers_trace::{Callback, Event, Kind, Operation, Speaker};

use crate::rules::testing::*;

/// A plugin alone.
pub(super) fn reference_alone() -> Script {
    served(&run(0))
}

/// What the plugin gives to nbdkit_set_error is recorded, and the server itself answers every request.
pub(super) fn telling(mut script: Script) -> Script {
    for event in &mut script.events {
        match event.kind {
            Kind::Layer if event.layer == 0 => event.context = 1,
            Kind::Reply if event.operation().is_some_and(Operation::is_data) => {
                event.layer = Speaker::Simple as u8;
            }
            _ => {}
        }
    }
    script
}

/// errno_is_preserved.
pub(super) fn preserving(mut script: Script) -> Script {
    for event in script.events.iter_mut().filter(|event| event.kind == Kind::Layer && event.layer == 0) {
        event.context = 2;
    }
    script
}

/// The first call of this callback of this layer fails.
pub(super) fn failing(script: Script, layer: u8, callback: Callback, error: i32) -> Script {
    script.changed(Kind::Exit, layer, callback, 0, |exit| {
        (exit.a, exit.c, exit.d) = (u64::MAX, error.cast_unsigned(), error.cast_unsigned());
    })
}

/// Index of client 1's first record of this kind about this operation.
pub(super) fn index(script: &Script, kind: Kind, operation: Operation) -> usize {
    let found = |event: &Event| event.kind == kind && event.operation() == Some(operation);
    script.events.iter().position(found).unwrap()
}

/// The client is told of this error.
pub(super) fn answered(mut script: Script, operation: Operation, error: i32) -> Script {
    let reply = index(&script, Kind::Reply, operation);
    (script.events[reply].a, script.events[reply].c) = (u64::MAX, error.cast_unsigned());
    script
}

/// The client's request has this flag of the protocol.
pub(super) fn with_flag(mut script: Script, operation: Operation, flag: u32) -> Script {
    let request = index(&script, Kind::Request, operation);
    script.events[request].d |= flag;
    script
}
