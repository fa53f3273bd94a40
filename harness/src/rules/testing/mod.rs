//! Traces for the rules' own tests: a good one, call by call, to be changed and judged.

mod changes;
mod said;
mod whole;

use layers_trace::{Callback, Event, Field, Kind, Operation, Probe, Text};
pub(crate) use said::{accepts, broken, exercised_and_holds, is_silent, judge, judged, rejects};
pub(crate) use whole::{TOLD_FLAGS, handing, reference, served, unprepared};

use crate::run::{Parameter, Run, Start, Tls};
use crate::version::Version;

/// A trace in the making. An event's `position` is its name; [`Script::finish`] numbers the events by their places.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    /// Thread of the events to come.
    pub(crate) tid: u32,
    pub(crate) pid: u32,
    handles: u32,
    fresh: u32,
    run: Run,
}

/// Thread that runs start-up and shutdown; also the process.
pub(crate) const MAIN: u32 = 100;
/// Main thread, and process, after a fork.
pub(crate) const CHILD: u32 = 200;
/// Thread of the reference trace's only connection.
pub(crate) const CONNECTION: u32 = 101;
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
        version: Version(1, 32, 5),
        scenario: "test".into(),
        start: Start::Foreground,
        filters,
        parameters: vec![Parameter { key: Some("size".into()), value: "1M".into() }],
        readonly: false,
        tls: Tls::Off,
        threads: None,
        oldstyle: false,
        no_structured_replies: false,
        hands_on: Vec::new(),
        never_exits: false,
        digests: true,
        client_log: true,
    }
}

/// The same, started like this.
pub(crate) fn started(filters: u8, start: Start) -> Run {
    Run { start, ..run(filters) }
}

impl Script {
    pub(crate) fn new(run: &Run) -> Script {
        let mut script =
            Script { events: Vec::new(), tid: MAIN, pid: MAIN, handles: 0, fresh: 0, run: run.clone() };
        script.note(Kind::Run, 0).texts.push(text(Field::Json, &serde_json::to_string(run).unwrap()));
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
            time: u64::from(position) * 1000,
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

    /// A call that goes through every layer, nested, from `top` to the plugin. `shape` fills in each enter.
    pub(crate) fn through(&mut self, top: u8, callback: Callback, result: i64, shape: impl Fn(&mut Event)) {
        let calls: Vec<u32> = (0..=top)
            .rev()
            .map(|layer| {
                let event = self.enter(layer, callback);
                shape(event);
                event.position
            })
            .collect();
        for call in calls.into_iter().rev() {
            self.exit(call, result);
        }
    }

    /// Opens a chain through all layers and returns the handles, plugin's first.
    pub(crate) fn open(&mut self, top: u8, name: &str) -> Vec<u32> {
        let handles = self.open_unprepared(top, name);
        for layer in 1..=top {
            self.on(&handles, layer, Callback::Prepare, 0);
        }
        handles
    }

    /// The same, without prepare; this is also how a filter opens a context of its own, from the layer below it.
    pub(crate) fn open_unprepared(&mut self, top: u8, name: &str) -> Vec<u32> {
        let nth = self.handles;
        let mut calls = Vec::new();
        for layer in (0..=top).rev() {
            let event = self.enter(layer, Callback::Open);
            event.texts.push(text(Field::Export, name));
            if layer > 0 {
                (event.context, event.b) = (context(layer, nth), backend(layer));
            }
            calls.push(event.position);
        }
        let mut handles = Vec::new();
        for call in calls.into_iter().rev() {
            self.handles += 1;
            handles.push(self.handles);
            self.exit(call, 1).handle = self.handles;
        }
        handles
    }

    /// An open through all layers that fails at this layer, once those below it are open; they are closed again.
    pub(crate) fn open_failing(&mut self, top: u8, failing: u8, name: &str) {
        let handles = self.open_unprepared(top, name);
        // The exits of the failing layer and those above it come after the closes, and give nothing.
        let above = usize::from(top - failing) + 1;
        let exits = self.events.split_off(self.events.len() - above);
        self.handles -= above as u32;
        for (nth, mut exit) in exits.into_iter().enumerate() {
            (exit.a, exit.handle) = (0, 0);
            self.events.push(exit);
            if nth == 0 {
                for layer in (0..failing).rev() {
                    self.on(&handles, layer, Callback::Close, 0);
                }
            }
        }
    }

    /// One call on a handle of that chain.
    pub(crate) fn on(&mut self, handles: &[u32], layer: u8, callback: Callback, result: i64) {
        let nth = handles[0] - 1;
        let event = self.enter(layer, callback);
        event.handle = handles[usize::from(layer)];
        if layer > 0 && callback != Callback::Close {
            event.context = context(layer - 1, nth);
        }
        let call = event.position;
        if callback == Callback::Close {
            match layer {
                0 => {
                    self.probe(call, Probe::ExportName);
                    self.probe(call, Probe::InternedInConnection);
                }
                _ => self.probe(call, Probe::ContextBackend),
            }
        }
        self.exit(call, result);
    }

    /// A call through a whole chain.
    pub(crate) fn through_chain(
        &mut self,
        handles: &[u32],
        callback: Callback,
        result: i64,
        shape: impl Fn(&mut Event),
    ) {
        let nth = handles[0] - 1;
        self.through(handles.len() as u8 - 1, callback, result, |event| {
            event.handle = handles[usize::from(event.layer)];
            if event.layer > 0 {
                event.context = context(event.layer - 1, nth);
            }
            shape(event);
        });
    }

    /// The same, from this layer of the chain inwards: what a filter asks of the layer below.
    pub(crate) fn through_from(&mut self, handles: &[u32], top: u8, callback: Callback, result: i64) {
        let inner = handles.get(..=usize::from(top)).unwrap();
        let count = if callback.is_data() && callback != Callback::Flush { 512 } else { 0 };
        self.through_chain(inner, callback, result, |event| event.c = count);
    }

    /// Finalizes and closes a chain.
    pub(crate) fn close(&mut self, handles: &[u32]) {
        let top = handles.len() as u8 - 1;
        for layer in (1..=top).rev() {
            self.on(handles, layer, Callback::Finalize, 0);
        }
        for layer in (0..=top).rev() {
            self.on(handles, layer, Callback::Close, 0);
        }
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
