//! Traces for the rules' own tests: a good one, call by call, to be mutated.

use layers_trace::{Callback, Event, Field, Kind, Operation, Probe, Text};

use super::{Judge, Judgement};
use crate::history::MAY_TRIM;
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

    pub(crate) fn request(&mut self, client: u32, operation: Operation) -> &mut Event {
        let event = self.note(Kind::Request, operation as u8);
        (event.handle, event.call) = (client, event.position);
        event
    }

    pub(crate) fn reply(&mut self, request: u32, result: i64) -> &mut Event {
        let asked = self.named(request);
        let event = self.note(Kind::Reply, asked.number);
        (event.handle, event.call, event.a) = (asked.handle, request, result.cast_unsigned());
        event
    }

    /// loads … after_fork.
    pub(crate) fn start(&mut self, top: u8) {
        self.load(top);
        self.configure(top);
        self.through(top, Callback::ConfigComplete, 0, |_| {});
        self.thread_models(top);
        self.inner_to_outer(top, Callback::GetReady);
        self.fork();
        self.inner_to_outer(top, Callback::AfterFork);
    }

    /// loads.
    pub(crate) fn load(&mut self, top: u8) {
        for layer in 0..=top {
            self.call(layer, Callback::Load, 0);
        }
    }

    /// One traversal of config for each parameter of the run.
    pub(crate) fn configure(&mut self, top: u8) {
        for parameter in self.run.parameters.clone() {
            let key = parameter.key.as_deref().unwrap_or("file");
            self.through(top, Callback::Config, 0, |event| {
                event.texts = vec![text(Field::Key, key), text(Field::Value, &parameter.value)];
            });
        }
    }

    /// Each layer asked for its thread model, which is 3.
    pub(crate) fn thread_models(&mut self, top: u8) {
        for layer in 0..=top {
            let event = self.enter(layer, Callback::ThreadModel);
            event.a = if layer > 0 { 3 } else { 0 };
            let call = event.position;
            self.exit(call, 3);
        }
    }

    /// Goes on as another process, where the server forks.
    pub(crate) fn fork(&mut self) {
        if matches!(self.run.start, Start::Daemon | Start::Captive) {
            (self.tid, self.pid) = (CHILD, CHILD);
        }
    }

    /// get_ready or after_fork of every layer.
    pub(crate) fn inner_to_outer(&mut self, top: u8, callback: Callback) {
        for layer in 0..=top {
            let event = self.enter(layer, callback);
            match callback {
                Callback::GetReady if layer > 0 => event.a = 3,
                Callback::AfterFork if layer > 0 => event.context = backend(layer),
                _ => {}
            }
            let call = event.position;
            self.exit(call, 0);
        }
    }

    /// What an instrument looked at during the call entered at `call`; it was as promised.
    pub(crate) fn probe(&mut self, call: u32, probe: Probe) {
        let enter = self.named(call);
        let event = self.note(Kind::Probe, probe as u8);
        (event.layer, event.handle, event.call, event.a) = (enter.layer, enter.handle, call, 1);
    }

    /// The server's end: SIGTERM, cleanups, unloads, exit status 0.
    pub(crate) fn stop(&mut self, top: u8) {
        self.tid = self.pid;
        self.note(Kind::Signal, 0).a = 15;
        self.cleanup(top);
        self.unload(top);
        self.exited(0);
    }

    /// cleanups.
    pub(crate) fn cleanup(&mut self, top: u8) {
        for layer in (0..=top).rev() {
            let event = self.enter(layer, Callback::Cleanup);
            event.context = if layer > 0 { backend(layer) } else { 0 };
            let call = event.position;
            self.probe(call, Probe::ConfigStrings);
            self.exit(call, 0);
        }
    }

    /// Loads, configures, dumps and unloads, as `--dump-plugin` does.
    pub(crate) fn dump(&mut self, top: u8) {
        self.load(top);
        self.configure(top);
        self.thread_models(top);
        self.call(0, Callback::DumpPlugin, 0);
        self.unload(top);
        self.exited(0);
    }

    /// The end, with this exit status.
    pub(crate) fn exited(&mut self, status: u64) -> &mut Event {
        let end = self.note(Kind::End, 0);
        end.a = status << 8;
        end
    }

    /// unloads.
    pub(crate) fn unload(&mut self, top: u8) {
        for layer in 0..=top {
            let call = self.enter(layer, Callback::Unload).position;
            if layer == 0 {
                self.probe(call, Probe::ConfigStrings);
                self.probe(call, Probe::InternedGlobally);
            }
            self.exit(call, 0);
        }
    }

    /// One connection of client 1, from connect to the last close: list, info, go, one of every request, disconnect.
    pub(crate) fn connection(&mut self, top: u8) {
        let connected = |event: &mut Event| {
            event.context = if event.layer > 0 { backend(event.layer) } else { 0 };
        };
        self.tid = CONNECTION;
        let connect = self.request(1, Operation::Connect).position;
        self.through(top, Callback::Preconnect, 0, connected);
        self.reply(connect, 0);
        let list = self.request(1, Operation::List).position;
        self.through(top, Callback::ListExports, 0, connected);
        self.reply(list, 0);
        for (operation, name) in [(Operation::Info, "a"), (Operation::Go, "")] {
            let asked = self.request(1, operation);
            asked.texts.push(text(Field::Export, name));
            let asked = asked.position;
            if name.is_empty() {
                self.through(top, Callback::DefaultExport, 1, connected);
                for event in self.events.iter_mut().rev().take(usize::from(top) + 1) {
                    event.texts.push(text(Field::Export, "main"));
                }
            }
            let handles = self.open(top, if name.is_empty() { "main" } else { name });
            for (query, answer) in QUERIES {
                self.through_chain(&handles, *query, *answer, |_| {});
            }
            if operation == Operation::Info {
                self.close(&handles);
                self.reply(asked, 0);
                continue;
            }
            self.reply(asked, 0);
            for (operation, callback) in REQUESTS {
                let event = self.request(1, *operation);
                (event.a, event.c) = if *operation == Operation::Flush { (0, 0) } else { (4096, 512) };
                let request = event.position;
                let range = if *callback == Callback::Flush { (0, 0) } else { (4096, 512) };
                let flags = if *callback == Callback::Zero { MAY_TRIM } else { 0 };
                self.through_chain(&handles, *callback, 0, |event| {
                    (event.a, event.c, event.d) = (range.0, range.1, flags);
                });
                if *callback == Callback::Extents {
                    // One extent, as every layer sees it.
                    self.events.iter_mut().rev().take(handles.len()).for_each(|exit| exit.b = 1);
                }
                self.reply(request, 0);
            }
            let leave = self.request(1, Operation::Disconnect).position;
            self.close(&handles);
            self.reply(leave, 0);
        }
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

    /// Removes the n-th call of this callback at this layer, enter and exit.
    pub(crate) fn without(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        self.events.retain(|event| !(is_call(event) && event.call == call));
        self
    }

    /// Moves the n-th call of this callback at this layer (enter and exit together) before the event at `to`.
    pub(crate) fn moved(mut self, layer: u8, callback: Callback, nth: usize, to: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        let mine = |event: &Event| is_call(event) && event.call == call;
        let before = self.events.iter().take(to).filter(|event| mine(event)).count();
        let taken: Vec<Event> = self.events.iter().filter(|event| mine(event)).cloned().collect();
        self.events.retain(|event| !mine(event));
        self.events.splice(to - before..to - before, taken);
        self
    }

    /// Makes the n-th call of this callback at this layer on a thread of its own.
    pub(crate) fn elsewhere(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let call = self.events[self.index(Kind::Enter, layer, callback, nth)].position;
        let calls = self.events.iter_mut().filter(|event| is_call(event) && event.call == call);
        calls.for_each(|event| event.tid += 50);
        self
    }

    /// Puts what `add` adds before the event at `at`, in the thread and process of that event.
    pub(crate) fn with(mut self, at: usize, add: impl FnOnce(&mut Script)) -> Script {
        let rest = self.events.split_off(at);
        (self.tid, self.pid) = (rest[0].tid, rest[0].pid);
        add(&mut self);
        self.events.extend(rest);
        self
    }

    /// Repeats the n-th call of this callback at this layer right after its exit.
    pub(crate) fn doubled(mut self, layer: u8, callback: Callback, nth: usize) -> Script {
        let enter = self.index(Kind::Enter, layer, callback, nth);
        let exit = self.index(Kind::Exit, layer, callback, nth);
        let fresh = self.fresh;
        self.fresh += 2;
        let mut again = [self.events[enter].clone(), self.events[exit].clone()];
        again[0].position = fresh;
        again[1].position = fresh + 1;
        again.iter_mut().for_each(|event| event.call = fresh);
        self.events.splice(exit + 1..exit + 1, again);
        self
    }

    /// The last probe of this kind found that something was not as promised.
    pub(crate) fn denied(mut self, probe: Probe) -> Script {
        self.events.iter_mut().rfind(|event| event.probe() == Some(probe)).unwrap().a = 0;
        self
    }

    /// Takes this callback away from a layer: from its registration, and its calls.
    pub(crate) fn lacking(mut self, layer: u8, callback: Callback) -> Script {
        for event in &mut self.events {
            if event.kind == Kind::Layer && event.layer == layer {
                event.a &= !callback.bit();
            }
        }
        let of_it = |event: &Event| event.layer == layer && event.callback() == Some(callback);
        let calls: Vec<u32> =
            self.events.iter().filter(|event| of_it(event)).map(|event| event.call).collect();
        self.events.retain(|event| !(is_call(event) && calls.contains(&event.call)));
        self
    }

    /// Registers the plugin with this magic key; `None` registers nothing about it.
    pub(crate) fn magic(mut self, key: Option<&str>) -> Script {
        for event in self.events.iter_mut().filter(|event| event.kind == Kind::Layer && event.layer == 0) {
            event.texts = key.iter().map(|key| text(Field::Key, key)).collect();
        }
        self
    }

    /// Changes the n-th event of this kind, layer and callback.
    pub(crate) fn changed(
        mut self,
        kind: Kind,
        layer: u8,
        callback: Callback,
        nth: usize,
        change: impl FnOnce(&mut Event),
    ) -> Script {
        let index = self.index(kind, layer, callback, nth);
        change(&mut self.events[index]);
        self
    }
}

/// What a handshake asks of a writable chain, with answers of the reference plugin.
const QUERIES: &[(Callback, i64)] = &[
    (Callback::GetSize, 1 << 20),
    (Callback::CanWrite, 1),
    (Callback::CanZero, 2),
    (Callback::CanFastZero, 1),
    (Callback::CanTrim, 1),
    (Callback::CanFua, 2),
    (Callback::CanFlush, 1),
    (Callback::IsRotational, 0),
    (Callback::CanMultiConn, 1),
    (Callback::CanCache, 2),
    (Callback::CanExtents, 1),
];

const REQUESTS: &[(Operation, Callback)] = &[
    (Operation::Read, Callback::Pread),
    (Operation::Write, Callback::Pwrite),
    (Operation::Flush, Callback::Flush),
    (Operation::Trim, Callback::Trim),
    (Operation::Zero, Callback::Zero),
    (Operation::Cache, Callback::Cache),
    (Operation::BlockStatus, Callback::Extents),
];

/// The texts of a config.
pub(crate) fn parameter(key: &str, value: &str) -> Vec<Text> {
    vec![text(Field::Key, key), text(Field::Value, value)]
}

pub(crate) fn text(field: Field, text: &str) -> Text {
    Text { field, bytes: text.as_bytes().to_vec(), cut: false }
}

/// The event is part of a call.
fn is_call(event: &Event) -> bool {
    matches!(event.kind, Kind::Enter | Kind::Exit | Kind::Probe)
}

/// A whole good run of two filters over a plugin, in order of nbdkit 1.32.
pub(crate) fn reference() -> Script {
    served(&run(2))
}

/// The same, and both filters are known to hand on what they are asked.
pub(crate) fn handing() -> Script {
    let all = layers_behaviour::Behaviour::default().hands_on();
    served(&Run { hands_on: vec![all; 2], ..run(2) })
}

/// A whole good run with one client.
pub(crate) fn served(run: &Run) -> Script {
    let mut script = Script::new(run);
    script.start(run.filters);
    script.connection(run.filters);
    script.stop(run.filters);
    script
}

/// A whole good run in which the client's first attempt fails, because prepare of this layer does.
pub(crate) fn unprepared(layer: u8) -> Script {
    let good = reference();
    let info = good.events.iter().position(|event| event.operation() == Some(Operation::Info)).unwrap();
    good.with(info, |script| {
        let asked = script.request(1, Operation::Go);
        asked.texts.push(text(Field::Export, "a"));
        let asked = asked.position;
        let handles = script.open_unprepared(2, "a");
        for prepared in 1..layer {
            script.on(&handles, prepared, Callback::Prepare, 0);
        }
        script.on(&handles, layer, Callback::Prepare, -1);
        for prepared in (1..layer).rev() {
            script.on(&handles, prepared, Callback::Finalize, 0);
        }
        for closed in (0..=2).rev() {
            script.on(&handles, closed, Callback::Close, 0);
        }
        script.reply(asked, -1);
    })
}

/// Judges by every rule that the version of the run promises.
pub(crate) fn judged(script: Script) -> Judgement {
    let mut judge = Judge::new(super::all(), script.run.version);
    for event in script.finish() {
        judge.feed(&event);
    }
    judge.finish()
}

/// Ids of the rules that this trace breaks.
pub(crate) fn broken(script: Script) -> Vec<&'static str> {
    judged(script).results.iter().filter(|result| result.broken > 0).map(|result| result.rule.id).collect()
}

/// The rule must reject this trace.
#[track_caller]
pub(crate) fn rejects(rule: &str, script: Script) {
    let broken = broken(script);
    assert!(broken.contains(&rule), "`{rule}` did not fire; fired: {broken:?}");
}

/// The rule must have something to say of this trace, and no rule may reject it.
#[track_caller]
pub(crate) fn accepts(rule: &str, script: Script) {
    let judgement = judged(script);
    let result = judgement.result(rule).expect("the rule is in the catalogue");
    assert!(result.exercised > 0, "`{rule}` was never exercised");
    let findings: Vec<_> = judgement.findings().collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// The rule must have something to say of this trace and must not reject it, whatever others do.
#[track_caller]
pub(crate) fn exercised_and_holds(rule: &str, script: Script) {
    let judgement = judged(script);
    let result = judgement.result(rule).expect("the rule is in the catalogue");
    assert!(result.exercised > 0, "`{rule}` was never exercised");
    assert!(result.broken == 0, "{:#?}", result.findings);
}
