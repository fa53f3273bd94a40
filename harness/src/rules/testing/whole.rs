//! Whole good runs: their parts, and how they follow one another.

use layers_trace::{Callback, Event, Field, Kind, Operation, Probe};

use super::{CHILD, CONNECTION, Script, backend, run, text};
use crate::history::MAY_TRIM;
use crate::run::{Run, Start};

impl Script {
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
                self.told(asked);
                continue;
            }
            self.told(asked);
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
}

impl Script {
    /// The reply to a choice: the client is told what the queries came to.
    fn told(&mut self, asked: u32) {
        let reply = self.reply(asked, 0);
        (reply.context, reply.b, reply.d) = (1 << 20, TOLD_FLAGS, 1);
        // As libnbd says that block status is to be had.
        reply.texts.push(text(Field::Name, "base:allocation"));
    }
}

/// The transmission flags that [`QUERIES`] come to.
pub(crate) const TOLD_FLAGS: u64 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

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
