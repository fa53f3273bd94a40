//! The calls of a run as a tree: who called what inside what.
//!
//! The text is the same for every run of the same stack and clients: handles are numbered in order of appearance,
//! there are no times, processes, threads or pointers, each connection has a section of its own, and requests that
//! were in flight together stand in order of callback, offset and count.

pub mod session;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use layers_trace::{Callback, Event, Field, Kind};

use crate::history::{ConnectionId, End, EventStep, History};
use session::{is_session, session_tree};

/// A call with what happened inside it.
#[derive(Debug)]
struct Node {
    enter: Event,
    exit: Option<Event>,
    children: Vec<usize>,
    /// Requests in flight together share this number.
    group: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Start,
    Connection(ConnectionId),
    Aside,
    End,
}

/// Renders all calls of a trace.
pub fn tree(events: &[Event]) -> String {
    if is_session(events) {
        return session_tree(events);
    }
    let (mut history, mut builder) = (History::new(), Builder::default());
    for event in events {
        builder.take(event, &history.step(event));
    }
    builder.render(history.end())
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    by_call: HashMap<u32, usize>,
    roots: BTreeMap<Section, Vec<usize>>,
    handles: HashMap<u32, usize>,
    group: u32,
}

impl Builder {
    fn take(&mut self, event: &Event, step: &EventStep<'_, '_>) {
        match (event.kind, step.call()) {
            (Kind::Enter, Some(call)) => {
                let waiting =
                    call.connection.and_then(|c| step.history().client_of(c)).map_or(0, |c| c.waiting.len());
                // What the server does of itself, such as finalize after a goodbye in the same write, is no request.
                let of_server = call.parent.is_none() && !call.callback.is_data();
                if waiting < 2 || of_server {
                    self.group += 1;
                }
                let index = self.nodes.len();
                let node = Node { enter: event.clone(), exit: None, children: Vec::new(), group: self.group };
                self.nodes.push(node);
                self.by_call.insert(event.position, index);
                let parent = call.parent.and_then(|parent| self.by_call.get(&parent).copied());
                match parent.and_then(|parent| self.nodes.get_mut(parent)) {
                    Some(parent) => parent.children.push(index),
                    None => {
                        let section = self.section(call.connection, call.callback);
                        self.roots.entry(section).or_default().push(index);
                    }
                }
            }
            (Kind::Exit, _) => {
                let index = self.by_call.get(&event.call).copied();
                if let Some(node) = index.and_then(|index| self.nodes.get_mut(index)) {
                    node.exit = Some(event.clone());
                }
            }
            _ => {}
        }
    }

    fn section(&self, connection: Option<ConnectionId>, callback: Callback) -> Section {
        match (connection, callback) {
            (Some(connection), _) => Section::Connection(connection),
            (None, Callback::Cleanup | Callback::Unload) => Section::End,
            (None, callback) if callback.is_connected() => Section::Aside,
            (None, _) => Section::Start,
        }
    }

    fn render(mut self, end: Option<End>) -> String {
        let mut text = String::new();
        let roots = std::mem::take(&mut self.roots);
        let connections: Vec<Section> =
            roots.keys().copied().filter(|section| matches!(section, Section::Connection(_))).collect();
        for (section, calls) in &roots {
            let title = match section {
                Section::Start => "start".to_owned(),
                Section::Connection(_) => {
                    let number = connections.iter().position(|one| one == section).unwrap_or(0) + 1;
                    format!("connection {number}")
                }
                Section::Aside => "outside any connection".to_owned(),
                Section::End => "end".to_owned(),
            };
            let _ = writeln!(text, "{title}");
            for call in self.in_canonical_order(calls) {
                self.node(call, 1, &mut text);
            }
        }
        let _ = match end {
            Some(End::Exited(status)) => writeln!(text, "exit status {status}"),
            Some(End::Killed(signal)) => writeln!(text, "killed by signal {signal}"),
            None => writeln!(text, "end unknown"),
        };
        text
    }

    /// Sorts what was in flight together, and leaves the rest where it is.
    fn in_canonical_order(&self, calls: &[usize]) -> Vec<usize> {
        let mut calls: Vec<(usize, &Node)> =
            calls.iter().filter_map(|call| Some((*call, self.nodes.get(*call)?))).collect();
        calls.sort_by_key(|(_, node)| {
            let data = node.enter.callback().is_some_and(Callback::is_data);
            let key = (node.enter.number, node.enter.offset(), node.enter.count());
            (node.group, data.then_some(key))
        });
        calls.into_iter().map(|(call, _)| call).collect()
    }

    fn node(&mut self, index: usize, depth: usize, text: &mut String) {
        let Some(node) = self.nodes.get(index) else { return };
        let (enter, exit) = (node.enter.clone(), node.exit.clone());
        let children = node.children.clone();
        let Some(callback) = enter.callback() else { return };
        let _ = write!(text, "{:1$}L{2}.{callback}", "", depth * 2, enter.layer);
        if callback.has_handle() {
            let _ = write!(text, " {}", self.handle(enter.handle));
        }
        text.push_str(&arguments(&enter, callback));
        match &exit {
            Some(exit) if callback == Callback::Open && exit.result() != 0 => {
                let _ = write!(text, " = {}", self.handle(exit.handle));
            }
            Some(exit) => text.push_str(&result(exit, callback)),
            None => text.push_str(" … never returned"),
        }
        text.push('\n');
        for child in children {
            self.node(child, depth + 1, text);
        }
    }

    fn handle(&mut self, id: u32) -> String {
        match id {
            layers_trace::event::HANDLE_NULL => "NULL".to_owned(),
            layers_trace::event::HANDLE_FOREIGN => "foreign".to_owned(),
            id => {
                let next = self.handles.len() + 1;
                format!("h{}", self.handles.entry(id).or_insert(next))
            }
        }
    }
}

pub(crate) fn quoted(event: &Event, field: Field) -> String {
    event.text(field).map_or_else(
        || "NULL".to_owned(),
        |text| format!("{:?}{}", String::from_utf8_lossy(&text.bytes), if text.cut { "…" } else { "" }),
    )
}

/// Its arguments, each with a blank before it.
pub(crate) fn arguments(enter: &Event, callback: Callback) -> String {
    let mut text = String::new();
    let _ = match callback {
        Callback::Config => write!(text, " {}={}", quoted(enter, Field::Key), quoted(enter, Field::Value)),
        Callback::Open => write!(text, " {}", quoted(enter, Field::Export)),
        Callback::GetReady if enter.layer > 0 => write!(text, " thread_model={}", enter.a),
        Callback::Flush => write!(text, " flags={:#x}", enter.flags()),
        data if data.is_data() => {
            write!(text, " offset={} count={} flags={:#x}", enter.offset(), enter.count(), enter.flags())
        }
        _ => Ok(()),
    };
    let takes_readonly = matches!(
        callback,
        Callback::Preconnect
            | Callback::ListExports
            | Callback::DefaultExport
            | Callback::Open
            | Callback::Prepare
    );
    if takes_readonly && enter.readonly() {
        text.push_str(" readonly");
    }
    let takes_tls = matches!(callback, Callback::ListExports | Callback::DefaultExport | Callback::Open);
    if takes_tls && enter.is_tls() {
        text.push_str(" tls");
    }
    text
}

/// Its result, with a blank before it.
pub(crate) fn result(exit: &Event, callback: Callback) -> String {
    use Callback::{Cleanup, Close, DumpPlugin, Load, Unload};
    let failed = exit.result() < 0;
    match callback {
        Load | Unload | Cleanup | Close | DumpPlugin => String::new(),
        Callback::Open => " = NULL".to_owned(),
        Callback::DefaultExport => format!(" = {}", quoted(exit, Field::Export)),
        Callback::ExportDescription => format!(" = {}", quoted(exit, Field::Description)),
        Callback::BlockSize if !failed => {
            let (minimum, preferred, maximum) = exit.block_size();
            format!(" = {minimum}, {preferred}, {maximum}")
        }
        _ if failed => match exit.err().filter(|_| callback.is_data() && exit.layer > 0) {
            Some(err) => format!(" = {} err={err}", exit.result()),
            None => format!(" = {} errno={}", exit.result(), exit.errno()),
        },
        _ => format!(" = {}", exit.result()),
    }
}
