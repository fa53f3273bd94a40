//! Makes the trace of nbdkit that an example describes.

use std::collections::BTreeMap;

use layers_trace::{Callback, ContextFunction, Event, Field, Kind, Operation, Speaker};

use super::fields::{
    answer, callback, callbacks, context_function, declares, fill, named_breach, named_probe, number,
    of_layers, put_result, set_layer, set_run, usual,
};
use super::parse::{Argument, Half, Step, steps};
use super::words::{OPERATIONS, choice, expanded, understood};
use crate::history::{FAST_ZERO, FUA, MAY_TRIM, REQ_ONE};
use crate::rules::testing::{CHILD, MAIN, Script, backend, context, parameter, run, text};
use crate::run::Run;
use crate::version::Version;

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
    /// How much later than its place says an event is, in nanoseconds.
    later: u64,
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
        let mut settings = Run { filters, version: Version(1, 46, 0), ..run(filters) };
        let mut parameters = Vec::new();
        for argument in declarations.iter().filter(|step| step.head == "run").flat_map(|step| &step.arguments)
        {
            set_run(&mut settings, &mut parameters, argument);
        }
        settings.parameters = parameters;
        if declarations
            .iter()
            .any(|step| step.arguments.iter().any(|one| one.key.as_deref() == Some("passes")))
        {
            settings.hands_on = vec![0; usize::from(settings.filters)];
        }
        for (layer, argument) in
            of_layers(declarations).filter(|(_, one)| one.key.as_deref() == Some("passes"))
        {
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
            later: 0,
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
        if let Some((_, operation)) = OPERATIONS.iter().find(|(name, _)| *name == step.head) {
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
            "fork" => {
                (self.script.pid, self.main) = (CHILD, CHILD);
            }
            "forks" => {
                if self.run.start.forks() {
                    (self.script.pid, self.main) = (CHILD, CHILD);
                }
            }
            "wait" => self.later += number(&step.arguments[0].value).cast_unsigned() * 1_000_000_000,
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
                    let (script, later) = (&mut self.script, self.later);
                    script.tid = tid;
                    match call {
                        Some(call) => script.probe(call, probe),
                        None => _ = script.note(Kind::Probe, probe as u8),
                    }
                    let event = script.events.last_mut().unwrap();
                    (event.a, event.time) = (number, event.time + later);
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
        self.script.events.last_mut().unwrap().time += self.later;
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

    fn call(&mut self, step: &Step, layer: u8, callback: Callback) {
        let kept = self.tid;
        let begun = (step.half != Half::End).then(|| self.enter(step, layer, callback));
        if begun.is_some() {
            self.last = self.script.events.len() - 1;
        }
        self.tid = begun.map(|call| call.tid).or(kept);
        self.steps(step.inner.as_deref().unwrap_or_default());
        self.tid = kept;
        if step.half != Half::Begin {
            if begun.is_none() {
                self.last = self.script.events.len();
            }
            let call = begun.unwrap_or_else(|| {
                let is = |call: &&Running| (call.layer, call.callback) == (layer, callback);
                let usual = if callback.is_connected() { 100 + self.client } else { self.main };
                let here = |call: &&Running| is(call) && call.tid == kept.unwrap_or(usual);
                let call = self.running.iter().rfind(here).or_else(|| self.running.iter().rfind(is));
                *call.expect("a call that runs")
            });
            self.exit(step, call);
        }
    }

    fn enter(&mut self, step: &Step, layer: u8, callback: Callback) -> Running {
        let connected = callback.is_connected();
        let tid = self.tid.unwrap_or(if connected { 100 + self.client } else { self.main });
        let chain = self.chain(step, tid, layer, callback);
        self.script.tid = tid;
        let readonly = u32::from(self.run.readonly);
        let name = self.chosen_name();
        let later = self.later;
        let handle =
            chain.and_then(|chain| self.chains[chain].handles.get(&layer)).map_or(0, |handle| handle.0);
        let below = chain.filter(|chain| layer > 0 && self.chains[*chain].handles.contains_key(&(layer - 1)));
        let next = below.map_or(0, |chain| context(layer - 1, self.chains[chain].before));
        let (below_model, model) = (self.model(layer), self.model(u8::MAX));
        let data = self.data(tid, callback);
        let event = self.script.enter(layer, callback);
        event.time += later;
        match callback {
            Callback::ThreadModel if layer > 0 => event.a = below_model,
            Callback::GetReady if layer > 0 => event.a = model,
            Callback::AfterFork | Callback::Cleanup if layer > 0 => event.context = backend(layer),
            Callback::Preconnect | Callback::ListExports | Callback::DefaultExport => {
                event.d = readonly;
                event.context = if layer > 0 { backend(layer) } else { 0 };
            }
            Callback::Open => {
                event.d = readonly;
                event.texts.push(text(Field::Export, &name));
                if let Some(chain) = chain.filter(|_| layer > 0) {
                    (event.context, event.b) = (context(layer, self.chains[chain].before), backend(layer));
                }
            }
            Callback::Prepare => event.d = readonly,
            _ => {}
        }
        if callback.has_handle() {
            event.handle = handle;
            if callback != Callback::Close && layer > 0 {
                event.context = next;
            }
        }
        if callback.is_data() {
            (event.a, event.c, event.d) = data;
            event.b = u64::from(tid) << 32;
        }
        if callback == Callback::Config {
            if let [key, value] = &step.arguments[..]
                && key.key.is_none()
            {
                event.texts = parameter(&key.value, &value.value);
            }
        } else {
            fill(event, &step.arguments, Field::Export);
        }
        let call = Running { position: event.position, tid, layer, callback, chain };
        self.running.push(call);
        call
    }

    /// Returns offset, count and flags of a request: those of the call that it is in, else those that the client has asked for.
    fn data(&mut self, tid: u32, callback: Callback) -> (u64, u32, u32) {
        let above = self.running.iter().rfind(|call| call.tid == tid && call.callback == callback);
        let event = |position: u32| self.script.events.iter().rfind(|event| event.position == position);
        if let Some(above) = above.and_then(|call| event(call.position)) {
            return (above.a, above.c, above.d);
        }
        let mine = |one: &&(u32, Operation, u32)| one.0 == self.client && one.1.is_data();
        let is_new = |one: &&(u32, Operation, u32)| mine(one) && !self.served.contains(&one.2);
        let request = self.waiting.iter().find(is_new).or_else(|| self.waiting.iter().rfind(mine)).copied();
        let Some(request) = request.and_then(|one| event(one.2)) else { return (4096, 512, 0) };
        self.served.push(request.position);
        let flag = |bit, flag| if request.d & bit != 0 { flag } else { 0 };
        let flags = match callback {
            Callback::Zero => (MAY_TRIM ^ flag(2, MAY_TRIM)) | flag(16, FAST_ZERO) | flag(1, FUA),
            Callback::Extents => flag(8, REQ_ONE),
            Callback::Pwrite | Callback::Trim => flag(1, FUA),
            _ => 0,
        };
        if callback == Callback::Flush { (0, 0, 0) } else { (request.a, request.c, flags) }
    }

    /// Returns the chain of handles that a call belongs to; an `open` that no other is in begins one.
    fn chain(&mut self, step: &Step, tid: u32, layer: u8, callback: Callback) -> Option<usize> {
        let named = |argument: &&Argument| argument.key.as_deref() == Some("of");
        if let Some(named) = step.arguments.iter().find(named) {
            return Some(named.value.parse::<usize>().unwrap() - 1);
        }
        let above = self.running.iter().rfind(|call| call.tid == tid).copied();
        if callback == Callback::Open {
            let joined = above.filter(|above| above.callback == Callback::Open && above.layer > layer);
            return joined.and_then(|above| above.chain).or_else(|| {
                self.chains.push(Chain { client: self.client, before: self.minted, ..Chain::default() });
                Some(self.chains.len() - 1)
            });
        }
        if !callback.has_handle() {
            return None;
        }
        let has = |chain: &usize| self.chains[*chain].handles.contains_key(&layer);
        let is_open = |chain: &usize| self.chains[*chain].handles.get(&layer).is_some_and(|handle| handle.1);
        let joined = above.and_then(|above| above.chain).filter(is_open);
        let all = || (0..self.chains.len()).rev().filter(|chain| self.chains[*chain].client == self.client);
        joined.or_else(|| all().find(is_open)).or_else(|| all().find(has))
    }

    /// Returns the name of the export that the client has chosen, or the default's where it has left it to the server.
    fn chosen_name(&self) -> String {
        let is = |event: &&Event| event.kind == Kind::Request && event.handle == self.client;
        let is_choice = |event: &&Event| is(event) && event.operation().is_some_and(choice);
        let choice = self.script.events.iter().rfind(is_choice);
        let name = |event: &Event| {
            let field = event.texts.iter().find(|text| text.field == Field::Export)?;
            Some(String::from_utf8_lossy(&field.bytes).into_owned()).filter(|name| !name.is_empty())
        };
        let default =
            |event: &&Event| event.callback() == Some(Callback::DefaultExport) && event.kind == Kind::Exit;
        let asked = choice.and_then(name);
        asked.or_else(|| self.script.events.iter().rfind(default).and_then(name)).unwrap_or_default()
    }

    fn exit(&mut self, step: &Step, call: Running) {
        self.running.retain(|other| other.position != call.position);
        self.script.tid = call.tid;
        let default = self.answer(call.layer, call.callback);
        let later = self.later;
        let event = self.script.exit(call.position, default);
        event.time += later;
        if call.callback == Callback::DefaultExport && step.result.is_none() {
            event.texts.push(text(Field::Export, "main"));
        }
        if call.callback == Callback::Extents {
            event.b = 1;
        }
        if let Some(result) = &step.result {
            let words =
                if call.callback == Callback::ExportDescription { Field::Description } else { Field::Export };
            put_result(event, result, words);
        }
        fill(event, &step.told, Field::Export);
        let Some(chain) = call.chain else { return };
        if call.callback == Callback::Open && event.a != 0 {
            self.minted += 1;
            event.handle = self.minted;
            self.chains[chain].handles.insert(call.layer, (self.minted, true));
        }
        if call.callback == Callback::Close
            && let Some(handle) = self.chains[chain].handles.get_mut(&call.layer)
        {
            handle.1 = false;
        }
    }

    /// Returns what a layer answers where a step does not say it.
    fn answer(&self, layer: u8, callback: Callback) -> i64 {
        let said = self.answers.iter().find(|one| (one.0, one.1) == (layer, callback));
        said.map_or_else(|| usual(callback), |said| said.2)
    }

    /// Returns the answer of the outermost layer that has the callback, or what the server makes of its absence.
    fn outermost(&self, query: Callback) -> i64 {
        use Callback::{
            Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanTrim, CanWrite, CanZero,
        };
        let has =
            |callback: Callback| i64::from(self.layers.first().is_some_and(|set| set & callback.bit() != 0));
        let layer = self.layers.iter().rposition(|set| set & query.bit() != 0);
        layer.map_or_else(
            || match query {
                CanWrite => has(Callback::Pwrite),
                CanFlush | CanFua => has(Callback::Flush),
                CanTrim => has(Callback::Trim),
                CanZero => 1,
                CanFastZero => 1 - has(Callback::Zero),
                CanCache => has(Cache),
                CanExtents => has(Callback::Extents),
                Callback::GetSize => usual(query),
                _ => 0,
            },
            |layer| self.answer(layer as u8, query),
        )
    }

    /// Returns true if the server has no reason to make this query, as answers to others tell it all.
    fn is_spared(&self, callback: Callback) -> bool {
        use Callback::{CanFastZero, CanFua, CanTrim, CanWrite, CanZero};
        let writes = !self.run.readonly && self.outermost(CanWrite) != 0;
        match callback {
            CanWrite => self.run.readonly,
            CanFastZero => !writes || self.outermost(CanZero) == 0,
            CanZero | CanTrim | CanFua => !writes,
            _ => false,
        }
    }

    /// Returns the most serial thread model of the layers below this one.
    fn model(&self, layer: u8) -> u64 {
        let asked = self.answers.iter().filter(|one| one.0 < layer && one.1 == Callback::ThreadModel);
        asked.map(|one| one.2.cast_unsigned()).min().unwrap_or(3)
    }

    /// Returns the transmission flags that the queries come to.
    fn flags(&self) -> u64 {
        use Callback::{
            CanCache, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero, IsRotational,
        };
        let bits = [
            (CanFlush, 2),
            (CanFua, 3),
            (IsRotational, 4),
            (CanTrim, 5),
            (CanZero, 6),
            (CanMultiConn, 8),
            (CanCache, 10),
            (CanFastZero, 11),
        ];
        let said = |callback| !self.is_spared(callback) && self.outermost(callback) != 0;
        let flags =
            bits.iter().filter(|(callback, _)| said(*callback)).fold(1, |all, (_, bit)| all | 1 << bit);
        let replies = self
            .script
            .events
            .iter()
            .rev()
            .filter(|event| event.kind == Kind::Reply && event.handle == self.client);
        let decides = |operation| matches!(operation, Operation::StructuredReply | Operation::StartTls);
        let last = replies.filter_map(Event::operation).find(|operation| decides(*operation));
        let flags = if last == Some(Operation::StructuredReply) { flags | 1 << 7 } else { flags };
        if said(CanWrite) { flags } else { flags | 2 }
    }

    /// Plays what a filter calls below it, or a function of the server about a context.
    fn ask(&mut self, step: &Step, layer: u8, what: u8) {
        let tid = self.tid.unwrap_or(100 + self.client);
        let above = self.running.iter().rfind(|call| call.tid == tid && call.layer == layer).copied();
        self.script.tid = tid;
        let next = self
            .script
            .events
            .iter()
            .rfind(|event| above.is_some_and(|call| call.position == event.position));
        let (next, data) = next.map_or((0, None), |event| {
            (
                event.context,
                event.callback().filter(|callback| callback.is_data()).map(|_| (event.a, event.c, event.d)),
            )
        });
        let chain = above.and_then(|call| call.chain).map(|chain| self.chains[chain].before);
        let own = match ContextFunction::from_number(what) {
            Some(ContextFunction::Open) => Some(backend(layer)),
            Some(ContextFunction::SetNext) => chain.map(|chain| context(layer, chain)),
            _ => None,
        };
        let asked = (step.half != Half::End).then(|| {
            let event = self.script.note(Kind::Ask, what);
            (event.layer, event.context, event.call) = (layer, own.unwrap_or(next), event.position);
            event.handle = 0;
            if let Some(data) = data.filter(|_| own.is_none()) {
                (event.a, event.c, event.d) = data;
                event.b = u64::from(tid) << 32;
            }
            fill(event, &step.arguments, Field::Export);
            event.position
        });
        self.steps(step.inner.as_deref().unwrap_or_default());
        if step.half == Half::Begin {
            return;
        }
        let is = |event: &&Event| event.kind == Kind::Ask && event.number == what && event.layer == layer;
        let call = asked.or_else(|| self.script.events.iter().rfind(is).map(|event| event.position)).unwrap();
        self.script.tid = tid;
        let event = self.script.note(Kind::Answer, what);
        (event.layer, event.call, event.context) = (layer, call, next);
        match &step.result {
            Some(next) if own.is_some() => event.b = number(next).cast_unsigned(),
            Some(result) => put_result(event, result, Field::Export),
            None => {}
        }
        fill(event, &step.told, Field::Export);
    }

    fn request(&mut self, step: &Step, operation: Operation) {
        let kept = self.tid;
        self.script.tid = 100 + self.client;
        let (later, client) = (self.later, self.client);
        let begun = (step.half != Half::End).then(|| {
            self.last = self.script.events.len();
            let event = self.script.request(client, operation);
            event.time += later;
            if operation.is_data() && operation != Operation::Flush {
                (event.a, event.c) = (4096, 512);
            }
            if choice(operation) && step.arguments.iter().all(|argument| argument.key.is_some()) {
                event.texts.push(text(Field::Export, ""));
            }
            fill(event, &step.arguments, Field::Export);
            event.position
        });
        if let Some(position) = begun {
            self.waiting.push((client, operation, position));
        }
        if step.half == Half::Begin {
            return self.steps(step.inner.as_deref().unwrap_or_default());
        }
        if step.half == Half::Both {
            match &step.inner {
                Some(inner) => self.steps(inner),
                None if step.result.as_deref().is_none_or(|result| result == "0") => {
                    self.carried_out(operation)
                }
                None => {}
            }
        }
        self.tid = kept;
        let mine = |one: &&(u32, Operation, u32)| (one.0, one.1) == (client, operation);
        let position = begun.or_else(|| self.waiting.iter().rfind(mine).map(|one| one.2)).expect("a request");
        self.waiting.retain(|one| one.2 != position);
        self.script.tid = 100 + client;
        if step.half == Half::End {
            self.last = self.script.events.len();
        }
        let (size, flags) = (self.outermost(Callback::GetSize).cast_unsigned(), self.flags());
        let event = self.script.reply(position, 0);
        event.time += self.later;
        event.layer = match operation {
            Operation::Read | Operation::BlockStatus => Speaker::Structured as u8,
            operation if operation.is_data() => Speaker::Simple as u8,
            _ => 0,
        };
        if let Some(result) = &step.result {
            put_result(event, result, Field::Export);
        }
        if [libc::ENOTCONN, libc::ETIMEDOUT, libc::ECONNRESET, libc::EPIPE].contains(&event.c.cast_signed())
            && event.a != 0
        {
            // The client says so by itself.
            event.layer = 0;
        }
        if choice(operation) && event.a == 0 {
            (event.context, event.b, event.d) = (size, flags, 1);
            event.texts.push(text(Field::Name, "base:allocation"));
        }
        if event.a != 0 {
            (event.context, event.d) = (0, 0);
        }
        fill(event, &step.told, Field::Export);
    }

    /// Plays what a server does for a request of which an example says no more.
    fn carried_out(&mut self, operation: Operation) {
        let unnamed = self
            .script
            .events
            .last()
            .is_some_and(|event| event.texts.iter().all(|text| text.bytes.is_empty()));
        let open =
            if unnamed && self.run.version >= Version(1, 21, 22) { "default_export open" } else { "open" };
        let inner = match operation {
            Operation::Connect => "preconnect",
            Operation::List => "list_exports",
            Operation::Info => "OPEN prepare queries finalize close",
            Operation::Go | Operation::ExportName => "OPEN prepare queries",
            Operation::Read => "pread",
            Operation::Write => "pwrite",
            Operation::Flush => "flush",
            Operation::Trim => "trim",
            Operation::Zero => "zero",
            Operation::Cache => "cache",
            Operation::BlockStatus => "extents",
            Operation::Disconnect | Operation::Hangup => "finalize close",
            _ => "",
        };
        let begun = self.last;
        self.steps(&steps(&inner.replace("OPEN", open)));
        self.last = begun;
    }
}
