//! Traces for tests: a good one, call by call, to be changed and judged.

mod changes;
pub(crate) mod examples;
mod said;

use layers_trace::{Callback, Event, Field, Kind, Operation, Probe, Text};
pub(crate) use said::{judge, judged};

use crate::run::Run;
use crate::version::Version;

/// A trace in the making. An event's `position` is its name; [`Script::finish`] numbers the events by their places.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    /// Thread of the events to come.
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    /// How much later than its place says an event to come is, in nanoseconds.
    pub(crate) later: u64,
    fresh: u32,
    run: Run,
}

/// Thread that runs start-up and shutdown; also the process.
pub(crate) const MAIN: u32 = 100;
/// Main thread, and process, after a fork.
pub(crate) const CHILD: u32 = 200;
/// Backend pointer that layer n sees.
pub(crate) fn backend(layer: u8) -> u64 {
    0xb000 + u64::from(layer)
}
/// Context of layer n's handle in the chain opened `nth`.
pub(crate) fn context(layer: u8, nth: u32) -> u64 {
    0xc000 + u64::from(layer) + 16 * u64::from(nth)
}

pub(crate) fn run(filters: u8) -> Run {
    Run {
        server: "nbdkit".into(),
        version: Version(1, 46, 0),
        scenario: "test".into(),
        filters,
        digests: true,
        client_log: true,
        ..Run::default()
    }
}

impl Script {
    /// A trace that says of the run how it was started, and nothing of any layer.
    pub(crate) fn unregistered(run: &Run) -> Script {
        let mut script =
            Script { events: Vec::new(), tid: MAIN, pid: MAIN, later: 0, fresh: 0, run: run.clone() };
        script.note(Kind::Run, 0).texts.push(text(Field::Json, &serde_json::to_string(run).unwrap()));
        script
    }

    /// A trace of nbdkit in which every layer has every callback.
    pub(crate) fn new(run: &Run) -> Script {
        let mut script = Script::unregistered(run);
        for layer in 0..=run.filters {
            let every =
                Callback::NBDKIT.iter().filter(|c| !c.name().ends_with("_v1")).fold(0, |s, c| s | c.bit());
            let callbacks = match layer {
                0 => every & !Callback::Prepare.bit() & !Callback::Finalize.bit(),
                _ => every & !Callback::DumpPlugin.bit(),
            };
            let event = script.note(Kind::Layer, 0);
            (event.layer, event.a, event.c) = (layer, callbacks, 3);
            if layer == 0 {
                event.texts.push(text(Field::Key, "file"));
            }
        }
        script
    }

    pub(crate) fn note(&mut self, kind: Kind, number: u8) -> &mut Event {
        let position = self.fresh;
        self.fresh += 1;
        self.events.push(Event {
            position,
            kind,
            layer: 0,
            number,
            tid: self.tid,
            pid: self.pid,
            call: 0,
            handle: 0,
            time: u64::from(position) * 1000 + self.later,
            context: 0,
            a: 0,
            b: 0,
            c: 0,
            d: 0,
            texts: Vec::new(),
        });
        self.events.last_mut().unwrap()
    }

    fn named(&self, position: u32) -> Event {
        self.events.iter().rfind(|event| event.position == position).unwrap().clone()
    }

    pub(crate) fn enter(&mut self, layer: u8, callback: Callback) -> &mut Event {
        let event = self.note(Kind::Enter, callback as u8);
        event.layer = layer;
        event.call = event.position;
        event
    }

    /// Exit of the call entered at `call`, with the handle and callback of its enter.
    pub(crate) fn exit(&mut self, call: u32, result: i64) -> &mut Event {
        let enter = self.named(call);
        let event = self.note(Kind::Exit, enter.number);
        (event.layer, event.call, event.handle) = (enter.layer, call, enter.handle);
        event.a = result.cast_unsigned();
        if enter.callback().is_some_and(Callback::is_data) && enter.layer > 0 {
            event.d = 0;
        }
        event
    }

    /// A call that calls nothing.
    pub(crate) fn call(&mut self, layer: u8, callback: Callback, result: i64) {
        let call = self.enter(layer, callback).position;
        self.exit(call, result);
    }

    /// What an instrument looked at during the call entered at `call`; it was as promised.
    pub(crate) fn probe(&mut self, call: u32, probe: Probe) {
        let enter = self.named(call);
        let event = self.note(Kind::Probe, probe as u8);
        (event.layer, event.handle, event.call, event.a) = (enter.layer, enter.handle, call, 1);
    }

    pub(crate) fn request(&mut self, client: u32, operation: Operation) -> &mut Event {
        let event = self.note(Kind::Request, operation as u8);
        (event.handle, event.call) = (client, event.position);
        event
    }

    pub(crate) fn reply(&mut self, request: u32, result: i64) -> &mut Event {
        let asked = self.named(request);
        let event = self.note(Kind::Reply, asked.number);
        (event.handle, event.call, event.a) = (asked.handle, request, result.cast_unsigned());
        if asked.operation() == Some(Operation::Read) && result == 0 {
            // All of it has come.
            (event.d, event.context) = (asked.c, asked.c.into());
        }
        event
    }

    /// The version of the run.
    pub(crate) fn version(&self) -> Version {
        self.run.version
    }

    /// The events, numbered anew; exits and replies follow their enters, whose positions may have moved.
    pub(crate) fn finish(mut self) -> Vec<Event> {
        let moved: std::collections::HashMap<u32, u32> =
            self.events.iter().enumerate().map(|(index, event)| (event.position, index as u32)).collect();
        for (index, event) in self.events.iter_mut().enumerate() {
            event.call = match event.kind {
                Kind::Enter | Kind::Request => index as u32,
                _ => moved.get(&event.call).copied().unwrap_or(u32::MAX),
            };
            event.position = index as u32;
        }
        self.events
    }

    /// Index of the n-th (from 0) event of this kind, layer and callback.
    pub(crate) fn index(&self, kind: Kind, layer: u8, callback: Callback, nth: usize) -> usize {
        let found = self.events.iter().enumerate().filter(|(_, event)| {
            event.kind == kind && event.layer == layer && event.callback() == Some(callback)
        });
        found.map(|(index, _)| index).nth(nth).expect("the trace has such an event")
    }
}

/// The texts of a config.
pub(crate) fn parameter(key: &str, value: &str) -> Vec<Text> {
    vec![text(Field::Key, key), text(Field::Value, value)]
}

pub(crate) fn text(field: Field, text: &str) -> Text {
    Text { field, bytes: text.as_bytes().to_vec(), cut: false }
}

/// What the reference run of two filters over a plugin does: one of everything, and all is well.
const REFERENCE: &str = r#"
    run filters=2; start
    connect NBD_OPT_LIST NBD_OPT_INFO "a" NBD_OPT_GO ""
    NBD_CMD_READ NBD_CMD_WRITE NBD_CMD_FLUSH NBD_CMD_TRIM NBD_CMD_WRITE_ZEROES NBD_CMD_CACHE NBD_CMD_BLOCK_STATUS
    NBD_CMD_DISC { finalize L2.close L1.close L0.close { ExportName InternedInConnection } }
    stop
"#;

/// A whole good run of two filters over a plugin.
pub(crate) fn reference() -> Script {
    crate::testing::examples::script(REFERENCE)
}

/// The same, in which no layer ends the process by itself.
pub(crate) fn settled() -> Script {
    crate::testing::examples::script(&REFERENCE.replace("run filters=2", "run filters=2 never_exits=1"))
}
