//! Makes the trace of nbdkit that an example describes.

mod answers;
mod calls;
mod requests;

use std::collections::BTreeMap;

use layers_trace::{Callback, Event, Field, Kind, Operation};

use crate::run::Run;
use crate::testing::examples::fields::{
    answer, callback, callbacks, context_function, declares, fill, named_breach, named_probe, number,
    of_layers, set_layer, set_run,
};
use crate::testing::examples::parse::{Argument, Step, steps};
use crate::testing::examples::words::{OPERATIONS, expanded, understood};
use crate::testing::{CHILD, MAIN, Script, run};

/// The handles of one open.
#[derive(Debug, Default)]
struct Chain {
    client: u32,
    /// Handles that there were before it.
    before: u32,
    /// Handles by layer, and whether they are open.
    handles: BTreeMap<u8, (u32, bool)>,
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
struct Running {
    position: u32,
    tid: u32,
    layer: u8,
    callback: Callback,
    chain: Option<usize>,
}

/// Makes a trace, step by step.
pub(super) struct Player {
    script: Script,
    run: Run,
    /// Layers, by number, with their callbacks.
    layers: Vec<u64>,
    /// What layers answer where nothing else is said.
    answers: Vec<(u8, Callback, i64)>,
    chains: Vec<Chain>,
    minted: u32,
    running: Vec<Running>,
    /// Requests without a reply: client, operation, position.
    waiting: Vec<(u32, Operation, u32)>,
    /// Requests that have come to a layer.
    served: Vec<u32>,
    client: u32,
    /// The main thread, which is also the process.
    main: u32,
    /// The thread of the steps to come, where one was named or a call is running in it.
    tid: Option<u32>,
    /// The event at which the step begins that is written last.
    last: usize,
}

/// Returns the trace of an example, and the place of the event with which its last step begins.
pub(super) fn play(example: &str) -> (Script, usize) {
    let mut steps = steps(example);
    let declarations: Vec<Step> =
        steps.iter().filter(|step| declares(step).is_some() || step.head == "run").cloned().collect();
    steps.retain(|step| declares(step).is_none() && step.head != "run");
    let mut player = Player::new(&declarations, highest(example));
    let mut all = understood(&steps).to_vec();
    all.append(&mut steps);
    player.steps(&all);
    (player.script, player.last)
}

/// Returns the highest layer that an example names.
fn highest(example: &str) -> u8 {
    let digits = example.split(|letter: char| !letter.is_ascii_alphanumeric());
    digits.filter_map(|word| word.strip_prefix('L')?.parse().ok()).max().unwrap_or(0)
}

impl Player {
    fn new(declarations: &[Step], filters: u8) -> Player {
        let mut settings = run(filters);
        let of_run = declarations.iter().filter(|step| step.head == "run");
        of_run.flat_map(|step| &step.arguments).for_each(|argument| set_run(&mut settings, argument));
        for (layer, argument) in
            of_layers(declarations).filter(|(_, one)| one.key.as_deref() == Some("passes"))
        {
            settings.hands_on.resize(settings.filters.into(), 0);
            let passed = match argument.value.as_str() {
                "all" => layers_behaviour::Behaviour::default().hands_on(),
                named => callbacks(named),
            };
            settings.hands_on[usize::from(layer) - 1] = passed;
        }
        let mut script = Script::new(&settings);
        let registered = |(layer, one): &(u8, &Argument)| answer(*layer, one).is_none();
        for (layer, argument) in of_layers(declarations).filter(registered) {
            let of_layer = |event: &&mut Event| event.kind == Kind::Layer && event.layer == layer;
            set_layer(script.events.iter_mut().find(of_layer).expect("such a layer"), argument);
        }
        let layers =
            script.events.iter().filter(|event| event.kind == Kind::Layer).map(|event| event.a).collect();
        Player {
            script,
            run: settings,
            layers,
            answers: of_layers(declarations).filter_map(|(layer, one)| answer(layer, one)).collect(),
            chains: Vec::new(),
            minted: 0,
            running: Vec::new(),
            waiting: Vec::new(),
            served: Vec::new(),
            client: 1,
            main: MAIN,
            tid: None,
            last: 0,
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let kept = (self.client, self.tid, self.script.pid, self.main);
        for (place, number) in &step.places {
            match place {
                'c' => (self.client, self.tid) = (*number, Some(100 + number)),
                't' => self.tid = Some(*number),
                'p' => {
                    self.script.pid = if *number == 1 { MAIN } else { CHILD };
                    (self.main, self.tid) = (self.script.pid, Some(self.script.pid));
                }
                other => panic!("`{other}` is no place"),
            }
        }
        self.played(step);
        if !step.places.is_empty() {
            (self.client, self.tid, self.script.pid, self.main) = kept;
        }
    }

    fn played(&mut self, step: &Step) {
        let begun = self.script.events.len();
        self.last = begun;
        if let Some((layer, name)) = step.head.strip_prefix('L').and_then(|head| head.split_once('.')) {
            let layer = layer.parse().expect("the number of a layer");
            return match (name.strip_prefix("next."), context_function(name)) {
                (Some(below), _) => self.ask(step, layer, callback(below) as u8),
                (_, Some(function)) => self.ask(step, layer, function as u8),
                _ => self.call(step, layer, callback(name)),
            };
        }
        if let Some(callback) = Callback::from_name(&step.head) {
            self.everywhere(step, callback);
            self.last = begun;
            return;
        }
        if let Some((_, operation, _)) = OPERATIONS.iter().find(|(name, ..)| *name == step.head) {
            return self.request(step, *operation);
        }
        if let Some(expanded) = expanded(&step.head) {
            self.steps(&steps(expanded));
            self.last = begun;
            return;
        }
        self.note(step);
    }

    /// Makes an event that is no call and no request.
    fn note(&mut self, step: &Step) {
        let tid = self.tid.unwrap_or(self.main);
        match step.head.as_str() {
            "fork" => (self.script.pid, self.main) = (CHILD, CHILD),
            "forks" if !self.run.start.forks() => {}
            "forks" => (self.script.pid, self.main) = (CHILD, CHILD),
            "wait" => self.script.later += number(&step.arguments[0].value).cast_unsigned() * 1_000_000_000,
            "SIGTERM" => self.place(tid, |script| script.note(Kind::Signal, 0).a = 15),
            "SIGKILL" => self.place(tid, |script| script.note(Kind::Signal, 0).a = 9),
            "ends" => {
                let status = step.result.as_deref().map_or(0, number).cast_unsigned();
                self.place(tid, |script| {
                    let end = script.note(Kind::End, 0);
                    end.a = status << 8;
                    fill(end, &step.arguments, Field::Message);
                });
            }
            "killed" => {
                let signal = step.result.as_deref().map_or(9, number).cast_unsigned();
                self.place(tid, |script| script.note(Kind::End, 0).a = signal);
            }
            head => match (named_probe(head), named_breach(head)) {
                (Some(probe), _) => {
                    let call = self.running.iter().rfind(|call| call.tid == tid).map(|call| call.position);
                    let number = step.result.as_deref().map_or(1, number).cast_unsigned();
                    let script = &mut self.script;
                    script.tid = tid;
                    match call {
                        Some(call) => script.probe(call, probe),
                        None => _ = script.note(Kind::Probe, probe as u8),
                    }
                    let event = script.events.last_mut().unwrap();
                    event.a = number;
                    fill(event, step.arguments.iter().chain(&step.told), Field::Name);
                }
                (_, Some(breach)) => {
                    let waiting =
                        self.waiting.iter().rfind(|(client, ..)| *client == self.client).map(|one| one.2);
                    self.script.tid = tid;
                    let event = self.script.note(Kind::Breach, breach as u8);
                    (event.handle, event.call) = (self.client, waiting.unwrap_or(event.position));
                    fill(event, &step.arguments, Field::Message);
                }
                _ => panic!("`{head}` is no word of an example"),
            },
        }
    }

    fn place(&mut self, tid: u32, make: impl FnOnce(&mut Script)) {
        self.script.tid = tid;
        make(&mut self.script);
    }

    /// Plays a callback of every layer that has it, in the order in which all is well.
    fn everywhere(&mut self, step: &Step, callback: Callback) {
        use Callback::{AfterFork, Cleanup, Close, Finalize, GetReady, Load, Prepare, ThreadModel, Unload};
        let has = |(layer, set): (usize, &u64)| (set & callback.bit() != 0).then_some(layer as u8);
        let layers: Vec<u8> = self.layers.iter().enumerate().filter_map(has).collect();
        if matches!(callback, Load | Unload | ThreadModel | GetReady | AfterFork | Prepare) {
            return layers.into_iter().for_each(|layer| self.call(step, layer, callback));
        }
        if matches!(callback, Cleanup | Finalize | Close) {
            return layers.into_iter().rev().for_each(|layer| self.call(step, layer, callback));
        }
        if self.is_spared(callback) {
            return;
        }
        if callback == Callback::Config && step.arguments.is_empty() {
            for parameter in self.run.parameters.clone() {
                let key = parameter.key.unwrap_or_else(|| "file".to_owned());
                let arguments = [key, parameter.value].map(|value| Argument { key: None, value });
                self.everywhere(&Step { arguments: arguments.to_vec(), ..step.clone() }, callback);
            }
            return;
        }
        let inner = layers.into_iter().fold(step.inner.clone().unwrap_or_default(), |inner, layer| {
            let head = format!("L{layer}.{callback}");
            vec![Step { head, inner: Some(inner), ..step.clone() }]
        });
        self.steps(&inner);
    }
}
