//! Traces for the tests of this family: clients that ask for several things at once.

use layers_trace::{Callback, Event, Field, Operation};

use crate::rules::testing::{Script, backend, context, run, text};
use crate::run::Run;

/// Threads of the connections of clients 1 and 2, and of workers.
pub(super) const FIRST: u32 = 110;
pub(super) const SECOND: u32 = 120;
pub(super) const WORKER: u32 = 130;

/// A server in progress.
pub(super) struct Visits {
    pub(super) script: Script,
}

/// Where a client is served: its number, and its handles, the plugin's first.
#[derive(Clone)]
pub(super) struct Seat {
    client: u32,
    handles: Vec<u32>,
}

/// A data call in progress, outermost first.
pub(super) struct Read(Vec<u32>);

impl Visits {
    /// Of one filter over a plugin, of which this one (0 is the plugin) asks for this thread model; the other asks for PARALLEL.
    pub(super) fn asked(layer: u8, model: u64) -> Visits {
        Visits::of(&run(1), layer, model)
    }

    pub(super) fn of(run: &Run, layer: u8, model: u64) -> Visits {
        let mut script = Script::new(run);
        script.start(1);
        let asks = |event: &Event| event.layer == layer && event.callback() == Some(Callback::ThreadModel);
        let told = |event: &Event| event.layer > 0 && event.callback() == Some(Callback::GetReady);
        for event in &mut script.events {
            let exit = event.position != event.call;
            if (exit && asks(event)) || (!exit && told(event)) {
                event.a = model;
            }
        }
        Visits { script }
    }

    /// The client connects, to be greeted on this thread.
    pub(super) fn connect(&mut self, client: u32) -> u32 {
        self.script.request(client, Operation::Connect).position
    }

    /// It is greeted.
    pub(super) fn greet(&mut self, tid: u32, connect: u32) {
        self.script.tid = tid;
        self.script.through(1, Callback::Preconnect, 0, |event| {
            event.context = if event.layer > 0 { backend(event.layer) } else { 0 };
        });
        self.script.reply(connect, 0);
    }

    /// It selects an export.
    pub(super) fn go(&mut self, tid: u32, client: u32) -> Seat {
        let go = self.script.request(client, Operation::Go);
        go.texts.push(text(Field::Export, "main"));
        let go = go.position;
        self.script.tid = tid;
        let handles = self.script.open(1, "main");
        self.queries(&handles);
        self.script.reply(go, 0);
        Seat { client, handles }
    }

    fn queries(&mut self, handles: &[u32]) {
        use Callback::{
            CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero,
            GetSize, IsRotational,
        };
        self.script.through_chain(handles, GetSize, 1 << 20, |_| {});
        for query in [
            CanWrite,
            CanZero,
            CanFastZero,
            CanTrim,
            CanFua,
            CanFlush,
            IsRotational,
            CanMultiConn,
            CanCache,
            CanExtents,
        ] {
            self.script.through_chain(handles, query, 1, |_| {});
        }
    }

    /// Connects and selects at once.
    pub(super) fn arrive(&mut self, tid: u32, client: u32) -> Seat {
        let connect = self.connect(client);
        self.greet(tid, connect);
        self.go(tid, client)
    }

    /// Asks for this many reads.
    pub(super) fn ask(&mut self, seat: &Seat, reads: usize) -> Vec<u32> {
        let ask = |_| {
            let event = self.script.request(seat.client, Operation::Read);
            (event.a, event.c) = (4096, 512);
            event.position
        };
        (0..reads).map(ask).collect()
    }

    /// A read enters both layers on this thread.
    pub(super) fn enter(&mut self, tid: u32, seat: &Seat) -> Read {
        self.script.tid = tid;
        let nth = seat.handles[0] - 1;
        let enters = [1_u8, 0].map(|layer| {
            let event = self.script.enter(layer, Callback::Pread);
            (event.handle, event.a, event.c) = (seat.handles[usize::from(layer)], 4096, 512);
            event.context = if layer > 0 { context(layer - 1, nth) } else { 0 };
            event.position
        });
        Read(enters.to_vec())
    }

    /// It returns.
    pub(super) fn exit(&mut self, tid: u32, read: Read) {
        self.script.tid = tid;
        for call in read.0.into_iter().rev() {
            self.script.exit(call, 0);
        }
    }

    /// A whole read on this thread.
    pub(super) fn read(&mut self, tid: u32, seat: &Seat) {
        let read = self.enter(tid, seat);
        self.exit(tid, read);
    }

    /// All answers are there.
    pub(super) fn answer(&mut self, requests: Vec<u32>) {
        requests.into_iter().for_each(|request| {
            self.script.reply(request, 0);
        });
    }

    /// Says goodbye.
    pub(super) fn leave(&mut self, tid: u32, seat: &Seat) {
        let leave = self.script.request(seat.client, Operation::Disconnect).position;
        self.script.tid = tid;
        self.script.close(&seat.handles);
        self.script.reply(leave, 0);
    }

    /// The server stops.
    pub(super) fn stop(mut self) -> Script {
        self.script.stop(1);
        self.script
    }
}
