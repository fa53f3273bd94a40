//! Traces of HAProxy for the tests of its rules: good ones, call by call, to be mutated.

use layers_trace::appctx::{Context, Place, Slots, State};
use layers_trace::record::Record;
use layers_trace::{Callback, Event, Field, Kind, Operation, Probe, Text};

use crate::rules::check::Judgement;
use crate::rules::testing::judge;
pub(super) use crate::rules::testing::{accepts, is_silent, rejects};
use crate::run::{Run, Start, Tls};
use crate::version::Version;

pub(super) const PARSE: Callback = Callback::Parse;
pub(super) const IO_HANDLER: Callback = Callback::IoHandler;
pub(super) const IO_RELEASE: Callback = Callback::IoRelease;
pub(super) const INIT: Callback = Callback::Init;
pub(super) const FCT: Callback = Callback::Fct;
pub(super) const RELEASE: Callback = Callback::Release;

pub(super) const NULL: Place = Place::Null;
pub(super) const STORAGE: Place = Place::Storage;
pub(super) const ELSEWHERE: Place = Place::Elsewhere;

/// Thread of the events, and another.
const THREAD: u32 = 100;
const OTHER: u32 = 101;
/// The registered ones: keywords with everything and without parse, applets.
const FULL: u16 = 1;
const UNPARSED: u16 = 2;
const CLI: u16 = 1000;
const SERVICE: u16 = 1001;
const CALLBACK: u32 = 9;

/// A trace in the making; [`Script::finish`] numbers the events by their places.
#[derive(Clone, Debug)]
pub(super) struct Script {
    run: Run,
    events: Vec<Event>,
    fresh: u32,
}

/// Points `svcctx` there.
pub(super) fn set(state: &mut State, place: Place) {
    let context = context(state);
    context.place = place;
    context.svcctx = match place {
        Place::Null => 0,
        Place::Storage => 0x1_0000 + 168,
        Place::Elsewhere => 0x2_0000,
    };
}

pub(super) fn context(state: &mut State) -> &mut Context {
    state.context.as_mut().unwrap()
}

fn state(number: u16, place: Place) -> State {
    let none = Context { svcctx: 0, place, storage_is_zero: true, storage_hash: 1, linked: false };
    let mut state = State {
        number,
        st0: CALLBACK,
        context: Some(none),
        st2_is_zero: Some(true),
        slots: Some(Slots { io_handler: true, io_release: number == FULL }),
        released: false,
    };
    set(&mut state, place);
    state
}

impl Script {
    fn new() -> Script {
        let run = Run {
            server: "haproxy".into(),
            version: Version(2, 6, 12),
            scenario: "test".into(),
            start: Start::Foreground,
            filters: 0,
            parameters: Vec::new(),
            readonly: false,
            tls: Tls::Off,
            threads: None,
            oldstyle: false,
            no_structured_replies: false,
            hands_on: Vec::new(),
            never_exits: false,
            digests: false,
            client_log: true,
        };
        let mut script = Script { run, events: Vec::new(), fresh: 0 };
        script.note(Kind::Run, 0);
        for (number, words, callbacks) in [
            (FULL, "show servers state", vec![PARSE, IO_HANDLER, IO_RELEASE]),
            (UNPARSED, "show schema json", vec![IO_HANDLER]),
            (CLI, "<CLI>", vec![FCT, RELEASE]),
            (SERVICE, "<PROMEX>", vec![INIT, FCT, RELEASE]),
        ] {
            let event = script.note(Kind::Layer, 0);
            event.handle = number.into();
            event.a = callbacks.iter().fold(0, |set, callback| set | callback.bit());
            event.texts.push(Text { field: Field::Keyword, bytes: words.into(), cut: false });
        }
        script.client(Operation::Connect);
        script
    }

    fn note(&mut self, kind: Kind, number: u8) -> &mut Event {
        let position = self.fresh;
        self.fresh += 1;
        self.events.push(Event {
            position,
            kind,
            layer: 0,
            number,
            tid: THREAD,
            pid: THREAD,
            call: position,
            handle: 0,
            time: u64::from(position),
            context: 0,
            a: 0,
            b: 0,
            c: 0,
            d: 0,
            texts: Vec::new(),
        });
        self.events.last_mut().unwrap()
    }

    fn client(&mut self, operation: Operation) {
        self.note(Kind::Request, operation as u8).handle = 1;
        let call = self.fresh - 1;
        let reply = self.note(Kind::Reply, operation as u8);
        (reply.handle, reply.call) = (1, call);
    }

    fn enter(&mut self, callback: Callback, state: State) -> u32 {
        let event = self.note(Kind::Enter, callback as u8);
        event.handle = 1;
        put(event, state);
        event.a = 0x1_0000;
        event.position
    }

    fn exit(&mut self, call: u32, callback: Callback, state: State, result: i64) {
        let event = self.note(Kind::Exit, callback as u8);
        (event.handle, event.call) = (1, call);
        put(event, state);
        event.a = result.cast_unsigned();
    }

    fn call(&mut self, callback: Callback, before: State, after: State, result: i64) {
        let call = self.enter(callback, before);
        self.exit(call, callback, after, result);
    }

    /// A command that is handled three times, then released.
    fn command(&mut self) {
        self.call(PARSE, state(FULL, NULL), state(FULL, STORAGE), 0);
        for result in [0, 0, 1] {
            self.call(IO_HANDLER, state(FULL, STORAGE), state(FULL, STORAGE), result);
        }
        self.call(IO_RELEASE, state(FULL, STORAGE), state(FULL, STORAGE), 0);
    }

    fn stopped(mut self) -> Script {
        self.client(Operation::Hangup);
        self.note(Kind::Signal, 0).a = 15;
        self.note(Kind::End, 0);
        self
    }

    /// Place of the nth event of this kind of this callback.
    fn place(&self, kind: Kind, callback: Callback, nth: usize) -> usize {
        let is = |event: &Event| event.kind == kind && event.callback() == Some(callback);
        self.events.iter().enumerate().filter(|(_, event)| is(event)).nth(nth - 1).unwrap().0
    }

    fn changed(mut self, place: usize, change: impl FnOnce(&mut State)) -> Script {
        let mut state = State::of(&self.events[place]).unwrap();
        change(&mut state);
        put(&mut self.events[place], state);
        self
    }

    pub(super) fn at_enter(self, callback: Callback, nth: usize, change: impl FnOnce(&mut State)) -> Script {
        let place = self.place(Kind::Enter, callback, nth);
        self.changed(place, change)
    }

    pub(super) fn at_exit(self, callback: Callback, nth: usize, change: impl FnOnce(&mut State)) -> Script {
        let place = self.place(Kind::Exit, callback, nth);
        self.changed(place, change)
    }

    /// The instrument has looked, in the first call of the handler.
    pub(super) fn probe(mut self, probe: Probe, ok: bool) -> Script {
        let event = self.note(Kind::Probe, probe as u8);
        (event.handle, event.a) = (1, u64::from(ok));
        let event = self.events.pop().unwrap();
        let place = self.place(Kind::Enter, IO_HANDLER, 1) + 1;
        self.events.insert(place, event);
        self
    }

    /// The server dies of this signal, which nobody has sent.
    pub(super) fn killed(mut self, signal: i32) -> Script {
        self.events.retain(|event| event.kind != Kind::Signal);
        self.events.last_mut().unwrap().a = signal.cast_unsigned().into();
        self
    }

    /// The server dies of the signal that it is sent.
    pub(super) fn ends_by(mut self, signal: i32) -> Script {
        self.events.last_mut().unwrap().a = signal.cast_unsigned().into();
        self
    }

    /// Without this call.
    pub(super) fn without(self, callback: Callback, nth: usize) -> Script {
        let place = self.place(Kind::Enter, callback, nth);
        let mut script = self.without_exit(callback, nth);
        script.events.remove(place);
        script
    }

    /// This call never returns.
    pub(super) fn without_exit(mut self, callback: Callback, nth: usize) -> Script {
        let call = self.events[self.place(Kind::Enter, callback, nth)].position;
        self.events.retain(|event| event.kind != Kind::Exit || event.call != call);
        self
    }

    fn call_places(&self, callback: Callback, nth: usize) -> (usize, usize) {
        let enter = self.place(Kind::Enter, callback, nth);
        let call = self.events[enter].position;
        let is_exit = |event: &Event| event.kind == Kind::Exit && event.call == call;
        (enter, self.events.iter().position(is_exit).unwrap())
    }

    /// This call, which has nothing inside it, once more.
    pub(super) fn twice(mut self, callback: Callback, nth: usize) -> Script {
        let (enter, exit) = self.call_places(callback, nth);
        self.repeat(enter, exit, exit + 1);
        self
    }

    fn repeat(&mut self, enter: usize, exit: usize, at: usize) {
        let (mut first, mut last) = (self.events[enter].clone(), self.events[exit].clone());
        (first.position, first.call, last.position, last.call) =
            (self.fresh, self.fresh, self.fresh + 1, self.fresh);
        self.fresh += 2;
        self.events.splice(at..at, [first, last]);
    }

    /// This applet's function is called again after the release.
    pub(super) fn again_after_release(mut self, callback: Callback) -> Script {
        let (enter, exit) = self.call_places(callback, 1);
        let after = self.call_places(RELEASE, 1).1 + 1;
        self.repeat(enter, exit, after);
        for place in [after, after + 1] {
            self = self.changed(place, |state| state.released = true);
        }
        self
    }

    /// These two calls in each other's place.
    pub(super) fn swapped(mut self, one: Callback, nth: usize, other: Callback, mth: usize) -> Script {
        let (one, other) = (self.call_places(one, nth), self.call_places(other, mth));
        for (a, b) in [(one.0, other.0), (one.1, other.1)] {
            self.events.swap(a, b);
            let (first, second) = (self.events[a].position, self.events[b].position);
            (self.events[a].position, self.events[b].position) = (second, first);
            let (first, second) = (self.events[a].call, self.events[b].call);
            (self.events[a].call, self.events[b].call) = (second, first);
        }
        self
    }

    pub(super) fn on_another_thread(mut self, callback: Callback, nth: usize) -> Script {
        let (enter, exit) = self.call_places(callback, nth);
        self.events[enter].tid = OTHER;
        self.events[exit].tid = OTHER;
        self
    }

    pub(super) fn version(mut self, major: u16) -> Script {
        self.run.version = Version(major, 0, 0);
        self
    }

    fn finish(mut self) -> Vec<Event> {
        let json = serde_json::to_vec(&self.run).unwrap();
        self.events[0].texts.push(Text { field: Field::Json, bytes: json, cut: false });
        let places: Vec<u32> = self.events.iter().map(|event| event.position).collect();
        let place = |name: u32| places.iter().position(|one| *one == name).unwrap() as u32;
        for event in &mut self.events {
            (event.position, event.call) = (place(event.position), place(event.call));
        }
        self.events
    }
}

fn put(event: &mut Event, state: State) {
    let mut record = Record::default();
    state.put(&mut record);
    (event.context, event.b, event.c, event.d) = (record.context, record.b, record.c, record.d);
}

/// The appctx as the applet of the command line sees it between commands.
fn idle() -> State {
    State { st0: 1, ..state(CLI, NULL) }
}

/// One command, to its end.
pub(super) fn dump() -> Script {
    let mut script = Script::new();
    script.command();
    script.call(RELEASE, idle(), idle(), 0);
    script.stopped()
}

/// Two commands, one after the other.
pub(super) fn chain() -> Script {
    let mut script = Script::new();
    script.command();
    script.command();
    script.call(RELEASE, idle(), idle(), 0);
    script.stopped()
}

/// A command of a keyword that has no parse.
pub(super) fn unparsed() -> Script {
    let mut script = Script::new();
    script.call(IO_HANDLER, state(UNPARSED, NULL), state(UNPARSED, STORAGE), 1);
    script.call(RELEASE, idle(), idle(), 0);
    script.stopped()
}

/// A command whose client leaves after its first call.
pub(super) fn abort() -> Script {
    let mut script = Script::new();
    script.call(PARSE, state(FULL, NULL), state(FULL, STORAGE), 0);
    script.call(IO_HANDLER, state(FULL, STORAGE), state(FULL, STORAGE), 0);
    let release = script.enter(RELEASE, state(CLI, STORAGE));
    script.call(IO_RELEASE, state(FULL, STORAGE), state(FULL, STORAGE), 0);
    script.exit(release, RELEASE, state(CLI, STORAGE), 0);
    script.stopped()
}

/// A command that never gets a context.
pub(super) fn null_release() -> Script {
    let mut script = Script::new();
    script.call(PARSE, state(FULL, NULL), state(FULL, NULL), 0);
    script.call(IO_HANDLER, state(FULL, NULL), state(FULL, NULL), 1);
    script.call(IO_RELEASE, state(FULL, NULL), state(FULL, NULL), 0);
    script.call(RELEASE, idle(), idle(), 0);
    script.stopped()
}

/// A command that parse ends.
pub(super) fn failed(released: bool) -> Script {
    let mut script = Script::new();
    script.call(PARSE, state(FULL, NULL), state(FULL, STORAGE), 1);
    if released {
        script.call(IO_RELEASE, state(FULL, STORAGE), state(FULL, STORAGE), 0);
    }
    script.call(RELEASE, idle(), idle(), 0);
    script.stopped()
}

/// An applet that serves one request.
pub(super) fn service() -> Script {
    let mut script = Script::new();
    script.call(INIT, state(SERVICE, NULL), state(SERVICE, STORAGE), 0);
    for _ in 0..2 {
        script.call(FCT, state(SERVICE, STORAGE), state(SERVICE, STORAGE), 0);
    }
    script.call(RELEASE, state(SERVICE, STORAGE), state(SERVICE, STORAGE), 0);
    script.stopped()
}

/// An applet whose init fails.
pub(super) fn failed_init(released: bool) -> Script {
    let mut script = Script::new();
    script.call(INIT, state(SERVICE, NULL), state(SERVICE, NULL), -1);
    if released {
        script.call(RELEASE, state(SERVICE, NULL), state(SERVICE, NULL), 0);
    }
    script.stopped()
}

/// By every rule of HAProxy.
impl From<Script> for Judgement {
    fn from(script: Script) -> Judgement {
        judge(super::RULES.iter().copied().flatten(), script.run.version, script.finish())
    }
}
