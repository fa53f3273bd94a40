//! The calls of an example, and what filters call below them.

use layers_trace::{Callback, ContextFunction, Event, Field, Kind, Operation};

use super::{Chain, Player, Running};
use crate::history::{FAST_ZERO, FUA, MAY_TRIM, REQ_ONE};
use crate::testing::examples::fields::{fill, number, put_result};
use crate::testing::examples::parse::{Argument, Half, Step};
use crate::testing::examples::words::choice;
use crate::testing::{backend, context, parameter, text};

impl Player {
    pub(super) fn call(&mut self, step: &Step, layer: u8, callback: Callback) {
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

    pub(super) fn enter(&mut self, step: &Step, layer: u8, callback: Callback) -> Running {
        let connected = callback.is_connected();
        let tid = self.tid.unwrap_or(if connected { 100 + self.client } else { self.main });
        let chain = self.chain(step, tid, layer, callback);
        self.script.tid = tid;
        let readonly = u32::from(self.run.readonly);
        let name = self.chosen_name();
        let handle =
            chain.and_then(|chain| self.chains[chain].handles.get(&layer)).map_or(0, |handle| handle.0);
        let below = chain.filter(|chain| layer > 0 && self.chains[*chain].handles.contains_key(&(layer - 1)));
        let next = below.map_or(0, |chain| context(layer - 1, self.chains[chain].before));
        let (below_model, model) = (self.model(layer), self.model(u8::MAX));
        let data = self.data(tid, callback);
        let event = self.script.enter(layer, callback);
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
    pub(super) fn data(&mut self, tid: u32, callback: Callback) -> (u64, u32, u32) {
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
    pub(super) fn chain(&mut self, step: &Step, tid: u32, layer: u8, callback: Callback) -> Option<usize> {
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
    pub(super) fn chosen_name(&self) -> String {
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

    pub(super) fn exit(&mut self, step: &Step, call: Running) {
        self.running.retain(|other| other.position != call.position);
        self.script.tid = call.tid;
        let default = self.answer(call.layer, call.callback);
        let event = self.script.exit(call.position, default);
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

    /// Plays what a filter calls below it, or a function of the server about a context.
    pub(super) fn ask(&mut self, step: &Step, layer: u8, what: u8) {
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
}
