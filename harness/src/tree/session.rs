//! The calls of a session of HAProxy: which commands each appctx ran, and how each call found and left `svcctx`.
//!
//! The text is the same for every run of the same session: appctxs stand in the order of their first command, without ids, times,
//! threads or pointers. How often the applet of a command line itself is called is left out: it is woken as bytes come.

use std::collections::BTreeMap;
use std::fmt::Write;

use layers_trace::appctx::{Place, State};
use layers_trace::{Callback, Event, Kind};

use crate::history::{End, History, ends};

/// A call, with what it found and left.
struct Line {
    depth: usize,
    text: String,
}

/// The trace is one of HAProxy.
pub fn is_session(events: &[Event]) -> bool {
    events.iter().any(layers_trace::appctx::is_registration)
}

/// Renders the calls of every keyword, and of every applet that is no command line.
pub fn session_tree(events: &[Event]) -> String {
    let mut history = History::new();
    let mut appctxs: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
    let mut order = Vec::new();
    let exits = ends(events);
    for event in events {
        let step = history.step(event);
        let history = step.history();
        if let (Kind::Enter, Some(call), Some(state)) = (event.kind, step.call(), State::of(event)) {
            let words = history.registered_as(state.number).map_or("?", |one| one.words.as_str());
            let shown =
                call.callback.is_keyword() || call.callback == Callback::Release || !words.contains("CLI>");
            if shown {
                let lines = appctxs.entry(event.handle).or_insert_with(|| {
                    order.push(event.handle);
                    Vec::new()
                });
                let inside = call.parent.is_some()
                    && history.parent(call).is_some_and(|parent| parent.callback != Callback::Fct);
                let text = line(words, call.callback, &state, exits.get(&event.position).copied());
                lines.push(Line { depth: usize::from(inside), text });
            }
        }
    }
    let mut text = String::new();
    let ran = |lines: &[Line]| lines.iter().any(|line| !line.text.starts_with("<CLI>"));
    for (number, lines) in
        order.iter().filter_map(|id| appctxs.get(id)).filter(|lines| ran(lines)).enumerate()
    {
        let _ = writeln!(text, "appctx {}", number + 1);
        for line in lines {
            let _ = writeln!(text, "{:1$}{2}", "", 2 * (line.depth + 1), line.text);
        }
    }
    let _ = match history.end() {
        Some(End::Exited(status)) => writeln!(text, "exit status {status}"),
        Some(End::Killed(signal)) => writeln!(text, "killed by signal {signal}"),
        None => writeln!(text, "end unknown"),
    };
    text
}

fn line(words: &str, callback: Callback, before: &State, exit: Option<&Event>) -> String {
    let mut text = format!("{words}: {callback} {}", place(before));
    match exit.and_then(|exit| Some((exit, State::of(exit)?))) {
        Some((exit, after)) => {
            if place(before) != place(&after) {
                let _ = write!(text, " → {}", place(&after));
            }
            if !matches!(callback, Callback::IoRelease | Callback::Release | Callback::Fct) {
                let _ = write!(text, " = {}", exit.result());
            }
        }
        None => text.push_str(" … never returned"),
    }
    text
}

/// What `svcctx` points at; empty where that is not known.
pub(crate) fn place(state: &State) -> &'static str {
    match state.context.map(|context| context.place) {
        None => "",
        Some(Place::Null) => "NULL",
        Some(Place::Storage) => "storage",
        Some(Place::Elsewhere) => "elsewhere",
    }
}
