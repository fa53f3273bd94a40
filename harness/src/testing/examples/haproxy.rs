//! Makes the trace of HAProxy that an example describes: one client, one appctx, one keyword and one applet.

use layers_trace::appctx::{Context, FIRST_APPLET, Place, Slots, State};
use layers_trace::record::Record;
use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::fields::{callbacks, named_probe, number, set_run};
use super::parse::{Argument, Half, Step, steps};
use crate::run::Run;
use crate::testing::{Script, run, text};
use crate::version::Version;

const KEYWORD: u16 = 1;
const COMMAND_LINE: u16 = FIRST_APPLET;
const SERVICE: u16 = FIRST_APPLET + 1;
/// `st0` while a command runs.
const RUNNING: u32 = 9;

/// Makes a trace, step by step.
struct Player {
    script: Script,
    /// The callbacks of the keyword.
    keyword: u64,
    /// The appctx as the last call has left it.
    state: State,
    /// The service has been called, and so a release is the service's.
    serves: bool,
    running: Vec<(u32, Callback, State)>,
    last: usize,
}

/// Returns the trace of an example, and the place of the event with which its last step begins.
pub(super) fn play(example: &str) -> (Script, usize) {
    let mut all = steps(example);
    let declarations: Vec<Step> =
        all.extract_if(.., |step| matches!(step.head.as_str(), "run" | "keyword")).collect();
    let mut settings = Run { server: "haproxy".into(), version: Version(3, 2, 0), digests: false, ..run(0) };
    let mut keyword = callbacks("parse,io_handler,io_release");
    for argument in declarations.iter().flat_map(|step| &step.arguments) {
        match argument.key.as_deref() {
            Some("without") => keyword &= !callbacks(&argument.value),
            _ => set_run(&mut settings, argument),
        }
    }
    let serves = all.iter().any(|step| matches!(step.head.as_str(), "init" | "fct"));
    let (script, state) = (Script::unregistered(&settings), fresh(keyword));
    let mut player = Player { script, keyword, state, serves, running: Vec::new(), last: 0 };
    player.register(KEYWORD, "show servers state", keyword);
    player.register(COMMAND_LINE, "<CLI>", callbacks("fct,release"));
    player.register(SERVICE, "<PROMEX>", callbacks("init,fct,release"));
    player.client(Operation::Connect);
    player.steps(&all);
    (player.script, player.last)
}

/// Returns an appctx in which nothing has happened.
fn fresh(keyword: u64) -> State {
    let context =
        Context { svcctx: 0, place: Place::Null, storage_is_zero: true, storage_hash: 1, linked: false };
    let has = |callback: Callback| keyword & callback.bit() != 0;
    State {
        number: KEYWORD,
        st0: RUNNING,
        context: Some(context),
        st2_is_zero: Some(true),
        slots: Some(Slots { io_handler: has(Callback::IoHandler), io_release: has(Callback::IoRelease) }),
        released: false,
    }
}

/// Changes what arguments name.
fn change(state: &mut State, arguments: &[Argument]) {
    let context = state.context.as_mut().unwrap();
    for argument in arguments {
        let value = argument.value.as_str();
        match argument.key.as_deref().unwrap_or_default() {
            "svcctx" => {
                (context.place, context.svcctx) = match value {
                    "NULL" => (Place::Null, 0),
                    "storage" => (Place::Storage, 0x1_0000 + 168),
                    _ => (Place::Elsewhere, 0x2_0000),
                }
            }
            "bytes" => {
                context.storage_hash = number(value) as u32 + 1;
                context.storage_is_zero = number(value) == 0;
            }
            "linked" => context.linked = value == "1",
            "slots" => state.slots = None,
            "st0" => state.st0 = number(value) as u32,
            "st2" => state.st2_is_zero = Some(number(value) == 0),
            other => panic!("an appctx has no `{other}`"),
        }
    }
}

impl Player {
    fn register(&mut self, number: u16, words: &str, callbacks: u64) {
        let event = self.script.note(Kind::Layer, 0);
        (event.handle, event.a) = (number.into(), callbacks);
        event.texts.push(text(Field::Keyword, words));
    }

    fn client(&mut self, operation: Operation) {
        let request = self.script.request(1, operation).position;
        self.script.reply(request, 0);
    }

    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &Step) {
        let kept = self.script.tid;
        for (_, thread) in &step.places {
            self.script.tid = *thread;
        }
        self.last = self.script.events.len();
        let status = step.result.as_deref().map_or(0, number).cast_unsigned();
        match step.head.as_str() {
            "hangup" => self.client(Operation::Hangup),
            "SIGTERM" => self.script.note(Kind::Signal, 0).a = 15,
            "ends" => self.script.note(Kind::End, 0).a = status << 8,
            "killed" => self.script.note(Kind::End, 0).a = status,
            head => match (Callback::from_name(head), named_probe(head)) {
                (Some(callback), _) => self.call(step, callback),
                (_, Some(probe)) => {
                    let ok = step.result.as_deref().map_or(1, number).cast_unsigned();
                    let event = self.script.note(Kind::Probe, probe as u8);
                    (event.handle, event.a) = (1, ok);
                    for argument in &step.arguments {
                        match argument.key.as_deref() {
                            Some("trial") => event.b = number(&argument.value).cast_unsigned(),
                            other => panic!("a probe has no `{other:?}`"),
                        }
                    }
                }
                _ => panic!("`{head}` is no word of an example"),
            },
        }
        self.script.tid = kept;
    }

    fn call(&mut self, step: &Step, callback: Callback) {
        let begun = (step.half != Half::End).then(|| self.enter(step, callback));
        self.steps(step.inner.as_deref().unwrap_or_default());
        if step.half == Half::Begin {
            return;
        }
        let index = self.running.iter().rposition(|call| call.1 == callback).expect("a call that runs");
        let (call, _, mut state) = self.running.remove(index);
        if begun.is_none() {
            self.last = self.script.events.len();
        }
        change(&mut state, &step.told);
        let result = step.result.as_deref().map_or(0, number);
        put(self.script.exit(call, result), state);
        self.state = State { released: callback == Callback::Release, ..state };
    }

    fn enter(&mut self, step: &Step, callback: Callback) -> u32 {
        let is_nested = !self.running.is_empty();
        let mut state = match callback {
            Callback::Parse => fresh(self.keyword),
            Callback::Release if !self.serves && !is_live(&self.script.events) => {
                State { st0: 1, ..fresh(self.keyword) }
            }
            _ => self.state,
        };
        state.released = self.state.released;
        state.number = match callback {
            Callback::Parse | Callback::IoHandler | Callback::IoRelease => KEYWORD,
            _ if self.serves => SERVICE,
            _ => COMMAND_LINE,
        };
        state.released &= !is_nested;
        change(&mut state, &step.arguments);
        let event = self.script.enter(0, callback);
        (event.handle, event.a) = (1, 0x1_0000);
        put(event, state);
        let position = event.position;
        self.running.push((position, callback, state));
        position
    }
}

/// Returns true if a command is neither done nor released.
fn is_live(events: &[Event]) -> bool {
    let last = events
        .iter()
        .rfind(|event| event.kind == Kind::Exit && event.callback().is_some_and(Callback::is_keyword));
    last.is_some_and(|last| match last.callback() {
        Some(Callback::IoRelease) => false,
        Some(Callback::IoHandler | Callback::Parse) => last.a == 0,
        _ => true,
    })
}

fn put(event: &mut Event, state: State) {
    let mut record = Record::default();
    state.put(&mut record);
    (event.context, event.b, event.c, event.d) = (record.context, record.b, record.c, record.d);
}
