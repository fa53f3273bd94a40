//! The calls of a run, in columns: what the page draws.
//!
//! The axis is the order of events. An item is a call, a client's request, what a reference filter asks below it (each from
//! its first event to its last), or a single event. Numbers stand for lanes, names and texts, as each of them comes often.

use std::collections::HashMap;
use std::hash::Hash;

use layers_trace::appctx::State;
use layers_trace::{Below, Callback, Event, Field, Kind};
use serde::Serialize;

use crate::history::{End, History, closes, opens};
use crate::tree;
use crate::tree::session::{is_session, place};

/// In the column of lengths: it never came to its end.
const NEVER: i64 = -1;

/// What the page is given of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Picture {
    /// Of the run.
    name: String,
    /// Position in the trace of each event on the axis, as the difference to the one before.
    positions: Vec<u32>,
    /// Groups of lanes, from top to bottom: a layer, an appctx, the clients.
    groups: Vec<String>,
    /// Each with its group, what it is within that, and the thread on which its items nest: 0 where they do not.
    lanes: Vec<(usize, String, u32)>,
    /// What items are called, each with its family.
    names: Vec<(String, &'static str)>,
    /// Arguments and results.
    texts: Vec<String>,
    /// For each item, where it begins on the axis, as the difference to the one before.
    begins: Vec<usize>,
    /// How far it is from there to its last event: 0 for a single event, [`NEVER`].
    lengths: Vec<i64>,
    /// The lane of each item.
    lane: Vec<usize>,
    /// The name of each item.
    name_of: Vec<usize>,
    /// The arguments of each item, as a text.
    arguments: Vec<usize>,
    /// The result of each item, as a text.
    results: Vec<usize>,
}

impl Picture {
    /// Of this run.
    pub(super) fn of(name: &str, events: &[Event]) -> Picture {
        let mut painter = Painter::new(events);
        // The description of the run comes before anything happens.
        let shown = || events.iter().filter(|event| event.kind != Kind::Run);
        let ends: HashMap<u32, (usize, &Event)> = shown()
            .enumerate()
            .filter(|(_, event)| closes(event.kind))
            .map(|(index, event)| (event.call, (index, event)))
            .collect();
        let (mut position, mut begin) = (0, 0);
        for (index, event) in shown().enumerate() {
            painter.picture.positions.push(event.position.saturating_sub(position));
            position = event.position;
            painter.learn_name(event);
            if closes(event.kind) {
                continue;
            }
            // Whatever a trace says, nothing ends before it begins.
            let end =
                ends.get(&event.position).copied().filter(|(last, _)| opens(event.kind) && *last > index);
            painter.picture.begins.push(index - begin);
            begin = index;
            let length = match end {
                Some((last, _)) => (last - index) as i64,
                None if opens(event.kind) => NEVER,
                None => 0,
            };
            painter.picture.lengths.push(length);
            painter.item(event, end.map(|(_, event)| event));
        }
        painter.finish(name)
    }
}

/// Values that come again and again, each with a number.
struct Numbered<T>(HashMap<T, usize>);

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered(HashMap::new())
    }
}

impl<T: Hash + Eq + Clone> Numbered<T> {
    fn number(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    fn all(self) -> Vec<T> {
        let mut all: Vec<(T, usize)> = self.0.into_iter().collect();
        all.sort_by_key(|(_, number)| *number);
        all.into_iter().map(|(value, _)| value).collect()
    }
}

/// A row of the picture, before it has a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Signals, and the end.
    Server,
    Client(u32),
    Layer(u8, u32),
    Appctx(usize, u32),
}

impl Place {
    /// From top to bottom: the server, the clients, the layers from the outside in; appctxs as they come.
    fn group(self) -> (u8, usize) {
        match self {
            Place::Server => (0, 0),
            Place::Client(_) => (1, 0),
            Place::Layer(layer, _) => (2, usize::from(u8::MAX - layer)),
            Place::Appctx(number, _) => (3, number),
        }
    }
}

struct Painter {
    picture: Picture,
    history: History,
    session: bool,
    places: Numbered<Place>,
    names: Numbered<(String, &'static str)>,
    texts: Numbered<String>,
    threads: Numbered<u32>,
    handles: Numbered<u32>,
    appctxs: Numbered<u32>,
}

impl Painter {
    fn new(events: &[Event]) -> Painter {
        Painter {
            picture: Picture::default(),
            history: History::new(),
            session: is_session(events),
            places: Numbered::default(),
            names: Numbered::default(),
            texts: Numbered::default(),
            threads: Numbered::default(),
            handles: Numbered::default(),
            appctxs: Numbered::default(),
        }
    }

    /// Of a layer or a keyword; nothing else of the history is asked for.
    fn learn_name(&mut self, event: &Event) {
        if event.kind == Kind::Layer {
            drop(self.history.step(event));
        }
    }

    fn item(&mut self, event: &Event, end: Option<&Event>) {
        let place = self.place(event);
        self.picture.lane.push(self.places.number(place));
        let (name, family) = self.name(event);
        self.picture.name_of.push(self.names.number((name, family)));
        let arguments = self.arguments(event);
        self.picture.arguments.push(self.texts.number(arguments));
        let result = end.map_or(String::new(), |end| self.result(event, end));
        self.picture.results.push(self.texts.number(result));
    }

    fn place(&mut self, event: &Event) -> Place {
        match event.kind {
            Kind::Signal | Kind::End | Kind::Run => Place::Server,
            Kind::Request | Kind::Reply | Kind::Breach => Place::Client(event.handle),
            // A registration of HAProxy's is made for no appctx.
            Kind::Layer if self.session => Place::Server,
            _ if self.session => {
                Place::Appctx(self.appctxs.number(event.handle), self.threads.number(event.tid) as u32)
            }
            _ => Place::Layer(event.layer, self.threads.number(event.tid) as u32),
        }
    }

    fn name(&self, event: &Event) -> (String, &'static str) {
        if let (Some(callback), Some(state)) = (event.callback(), State::of(event)) {
            let words = self.history.registered_as(state.number).map_or("?", |one| one.words.as_str());
            return (format!("{words}: {callback}"), family(callback));
        }
        if let Some(callback) = event.callback() {
            return (callback.to_string(), family(callback));
        }
        let name = |said: Option<String>| said.unwrap_or_else(|| format!("{:?}", event.kind));
        match event.kind {
            Kind::Request => (name(event.operation().map(|operation| format!("{operation:?}"))), "client"),
            Kind::Ask => {
                let said = event.below().map(|below| match below {
                    Below::Next(callback) => format!("next: {callback}"),
                    Below::Context(function) => format!("context: {function:?}"),
                });
                (name(said), "ask")
            }
            Kind::Breach => (name(event.breach().map(|breach| format!("breach: {breach:?}"))), "note"),
            Kind::Probe => (name(event.probe().map(|probe| format!("{probe:?}"))), "note"),
            _ => (name(None), "note"),
        }
    }

    fn arguments(&mut self, event: &Event) -> String {
        if let Some(state) = State::of(event) {
            return place(&state).to_owned();
        }
        let mut text = match event.callback() {
            Some(callback) if callback.has_handle() => format!(" {}", self.handle(event.handle)),
            _ => String::new(),
        };
        let data = event.operation().is_some_and(|operation| operation.is_data())
            || matches!(event.below(), Some(Below::Next(callback)) if callback.is_data());
        match (event.callback(), event.kind) {
            (Some(callback), _) => text.push_str(&tree::arguments(event, callback)),
            (_, Kind::Request | Kind::Ask) if data => text.push_str(&format!(
                " offset={} count={} flags={:#x}",
                event.offset(),
                event.count(),
                event.flags()
            )),
            (_, Kind::Signal) => text.push_str(&format!(" {}", event.a)),
            (_, Kind::End) => text.push_str(&match End::of(event) {
                End::Exited(status) => format!(" exit status {status}"),
                End::Killed(signal) => format!(" killed by signal {signal}"),
            }),
            (_, Kind::Probe) => text.push_str(&format!(" a={} b={}", event.a, event.b)),
            _ => {}
        }
        if event.callback().is_none() {
            text.push_str(&said(event));
        }
        text.trim_start().to_owned()
    }

    fn result(&mut self, event: &Event, end: &Event) -> String {
        let text = match (event.callback(), State::of(end)) {
            (Some(_), Some(state)) => match place(&state) {
                "" => format!("= {}", end.result()),
                left => format!("→ {left} = {}", end.result()),
            },
            (Some(Callback::Open), None) if end.result() != 0 => format!("= {}", self.handle(end.handle)),
            (Some(callback), None) => tree::result(end, callback),
            (None, _) if event.kind == Kind::Request => format!("= {}{}", end.result(), said(end)),
            (None, _) => format!("= {}", end.result()),
        };
        text.trim_start().to_owned()
    }

    fn handle(&mut self, id: u32) -> String {
        match id {
            layers_trace::event::HANDLE_NULL => "NULL".to_owned(),
            layers_trace::event::HANDLE_FOREIGN => "foreign".to_owned(),
            id => format!("h{}", self.handles.number(id) + 1),
        }
    }

    /// Puts the lanes in order, and the tables into the picture.
    fn finish(self, name: &str) -> Picture {
        let Painter { mut picture, history, places, names, texts, .. } = self;
        let places = places.all();
        let mut order: Vec<(usize, Place)> = places.iter().copied().enumerate().collect();
        let row = |place: Place| match place {
            Place::Server => 0,
            Place::Client(row) | Place::Layer(_, row) | Place::Appctx(_, row) => row,
        };
        order.sort_by_key(|(_, place)| (place.group(), row(*place)));
        let mut groups = Numbered::default();
        let mut moved = vec![0; places.len()];
        for (now, (before, place)) in order.into_iter().enumerate() {
            let group = groups.number(match place {
                Place::Server => "server".to_owned(),
                Place::Client(_) => "clients".to_owned(),
                Place::Layer(number, _) => {
                    let name = history.layer(number).map_or("", |layer| layer.name.as_str());
                    format!("L{number} {name}")
                }
                Place::Appctx(number, _) => format!("appctx {}", number + 1),
            });
            picture.lanes.push(match place {
                Place::Server => (group, String::new(), 0),
                Place::Client(number) => (group, format!("client {number}"), 0),
                Place::Layer(_, thread) | Place::Appctx(_, thread) => {
                    (group, format!("thread {}", thread + 1), thread + 1)
                }
            });
            if let Some(moved) = moved.get_mut(before) {
                *moved = now;
            }
        }
        picture.lane = picture.lane.iter().filter_map(|lane| moved.get(*lane).copied()).collect();
        picture.groups = groups.all();
        picture.names = names.all();
        picture.texts = texts.all();
        picture.name = name.to_owned();
        picture
    }
}

/// What an event says in words, with a blank before each text.
fn said(event: &Event) -> String {
    let texts = event.texts.iter().filter(|text| text.field != Field::Json);
    texts.map(|text| format!(" {}", tree::quoted(event, text.field))).collect()
}

fn family(callback: Callback) -> &'static str {
    match callback {
        data if data.is_data() => "data",
        question if question.is_query() => "question",
        Callback::IoHandler | Callback::Fct => "data",
        Callback::Parse => "question",
        Callback::Init | Callback::Release | Callback::IoRelease => "connection",
        connected if connected.is_connected() => "connection",
        _ => "life",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reference;

    #[test]
    fn every_column_has_an_entry_for_each_item() {
        let events = reference().events;
        let picture = Picture::of("reference", &events);
        let calls = events.iter().filter(|event| event.kind == Kind::Enter).count();
        let returned = picture.lengths.iter().filter(|length| **length > 0).count();
        assert!(calls > 50 && returned >= calls, "{returned} of {calls}");
        let items = picture.begins.len();
        let columns = [&picture.lane, &picture.name_of, &picture.arguments, &picture.results];
        assert!(columns.iter().all(|column| column.len() == items));
        let layers = ["L3 ", "L2 ", "L1 ", "L0 "]
            .map(|name| picture.groups.iter().position(|group| group.starts_with(name)));
        let there: Vec<usize> = layers.into_iter().flatten().collect();
        assert!(there.len() > 1 && there.is_sorted(), "outermost first: {:?}", picture.groups);
    }

    #[test]
    fn what_ends_before_it_begins_never_ends() {
        let mut events = reference().events;
        events.reverse();
        let picture = Picture::of("backwards", &events);
        assert!(picture.lengths.iter().all(|length| *length == NEVER || *length == 0));
    }
}
