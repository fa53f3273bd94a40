//! A trace for ui.perfetto.dev and chrome://tracing (Chrome's "Trace Event Format", as JSON): a process a layer, outermost
//! first, a track a thread; above them what the clients asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use layers_trace::{Event, Field, Kind};
use serde_json::{Value, json};

use crate::foreign::visible::visible_line;
use crate::history::ends;
use crate::rules::CallRef;

/// The number of the clients' process; those of layers are theirs and one more.
const CLIENTS: u32 = 1000;

/// Writes the calls of a run.
pub fn write(to: &mut impl Write, events: &[Event]) -> io::Result<()> {
    let mut out = Out { to, begun: false };
    let exits = ends(events);
    let begin = events.iter().map(|event| event.time).min().unwrap_or(0);
    let end = events.iter().map(|event| event.time).max().unwrap_or(0);
    let mut tracks = Tracks::default();
    for event in events {
        tracks.see(event);
        let exit = exits.get(&event.position).copied();
        let ts = |time: u64| time.saturating_sub(begin) as f64 / 1000.0;
        let said = CallRef::from(event).to_string();
        match event.kind {
            Kind::Enter => {
                let callback = event.callback().map_or("?", |callback| callback.name());
                let until = exit.map_or(end, |exit| exit.time);
                out.event(&json!({
                    "ph": "X", "cat": "callback", "name": callback,
                    "pid": u32::from(event.layer) + 1, "tid": event.tid,
                    "ts": ts(event.time), "dur": until.saturating_sub(event.time) as f64 / 1000.0,
                    "args": {"position": event.position, "enter": said,
                             "exit": exit.map(|exit| CallRef::from(exit).to_string())},
                }))?;
            }
            Kind::Request => {
                // Requests of one client overlap, which calls of one thread cannot.
                let name = event.operation().map_or(said, |operation| format!("{operation:?}"));
                let common = json!({"cat": "client", "name": name, "id": event.position, "pid": CLIENTS, "tid": event.handle});
                let begun = json!({"ph": "b", "ts": ts(event.time), "args": {"position": event.position}});
                let reply = exit.map(|exit| CallRef::from(exit).to_string());
                let until = exit.map_or(end, |exit| exit.time);
                let ended = json!({"ph": "e", "ts": ts(until), "args": {"reply": reply}});
                out.event(&with(&common, &begun))?;
                out.event(&with(&common, &ended))?;
            }
            Kind::Signal | Kind::End | Kind::Breach => out.event(&json!({
                "ph": "i", "s": "g", "cat": "server", "name": said, "pid": CLIENTS, "tid": 0, "ts": ts(event.time),
            }))?,
            _ => {}
        }
    }
    tracks.name(&mut out)?;
    out.finish()
}

fn with(one: &Value, other: &Value) -> Value {
    let fields = [one, other].into_iter().filter_map(Value::as_object).flatten();
    Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// One array, an event a line.
struct Out<W> {
    to: W,
    begun: bool,
}

impl<W: Write> Out<W> {
    fn event(&mut self, event: &Value) -> io::Result<()> {
        let before = if self.begun { ",\n" } else { "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n" };
        self.begun = true;
        write!(self.to, "{before}{event}")
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.begun {
            write!(self.to, "{{\"traceEvents\":[")?;
        }
        writeln!(self.to, "\n]}}")?;
        self.to.flush()
    }
}

/// What has to be named.
#[derive(Default)]
struct Tracks {
    layers: BTreeMap<u8, String>,
    clients: BTreeSet<u32>,
}

impl Tracks {
    fn see(&mut self, event: &Event) {
        match event.kind {
            Kind::Layer => {
                let text = event.text(Field::Name).map_or(&[][..], |text| &text.bytes);
                let name = visible_line(&String::from_utf8_lossy(text));
                self.layers.insert(event.layer, format!("L{} {name}", event.layer));
            }
            Kind::Enter => {
                self.layers.entry(event.layer).or_insert_with(|| format!("L{}", event.layer));
            }
            Kind::Request => {
                self.clients.insert(event.handle);
            }
            _ => {}
        }
    }

    fn name<W: Write>(&self, out: &mut Out<W>) -> io::Result<()> {
        let mut named = |kind: &str, pid: u32, tid: u32, args: Value| {
            out.event(&json!({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}))
        };
        for (layer, name) in &self.layers {
            let pid = u32::from(*layer) + 1;
            named("process_name", pid, 0, json!({"name": name}))?;
            named("process_sort_index", pid, 0, json!({"sort_index": 256 - pid}))?;
        }
        if !self.clients.is_empty() {
            named("process_name", CLIENTS, 0, json!({"name": "clients"}))?;
            named("process_sort_index", CLIENTS, 0, json!({"sort_index": 0}))?;
        }
        for client in &self.clients {
            named("thread_name", CLIENTS, *client, json!({"name": format!("client {client}")}))?;
        }
        Ok(())
    }
}
