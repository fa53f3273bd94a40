//! HAProxy's side of a history: the registered keywords and applets, the appctxs that live, and the command that each of
//! them runs.
//!
//! An appctx is remembered until its memory is given out anew, so that a call that comes after its release can be told.

use std::collections::BTreeMap;

use layers_trace::appctx::{FIRST_APPLET, Slots, State, UNJUDGED};
use layers_trace::{Callback, Event, Field, Kind, Probe};

use crate::foreign::visible::visible_line;

/// A keyword or applet, as the instrument registered it.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its words (`show info`), or its name (`<CLI>`).
    pub words: String,
    /// It belongs to the instrument.
    pub own: bool,
    callbacks: u64,
}

impl Registered {
    /// It has this callback.
    pub fn has(&self, callback: Callback) -> bool {
        self.callbacks & callback.bit() != 0
    }
}

/// Keywords and applets of the server that the instrument stands in for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrapped {
    /// Of its command lines.
    pub keywords: usize,
    /// Of the executable.
    pub applets: usize,
}

/// A command of a command line: from its first call until the server has nothing more to do for it.
#[derive(Clone, Debug)]
pub struct CliCommand {
    /// Its keyword.
    pub number: u16,
    /// Exit of its `parse`.
    pub parsed: Option<Event>,
    /// Calls of `io_handler` that have begun.
    pub calls: u32,
    /// How its last call left the appctx.
    pub left: Option<(State, Event)>,
    /// The `io_handler` has said that it is done.
    pub done: bool,
    /// Enters of `io_release`.
    pub released: Vec<Event>,
    /// Nothing of it is to be called any more.
    pub over: bool,
    /// Some calls of it were not recorded.
    pub unrecorded: bool,
}

impl CliCommand {
    fn new(number: u16) -> CliCommand {
        CliCommand {
            number,
            parsed: None,
            calls: 0,
            left: None,
            done: false,
            released: Vec::new(),
            over: false,
            unrecorded: false,
        }
    }

    /// Its `parse` has said that there is nothing more to do, which is how it fails, too.
    pub fn parse_failed(&self) -> bool {
        self.parsed.as_ref().is_some_and(|exit| exit.result() != 0)
    }

    /// It waits for its handler to be called, or for its release.
    pub fn is_live(&self) -> bool {
        !self.over
    }
}

/// An appctx.
#[derive(Clone, Debug)]
pub struct Appctx {
    /// Minted.
    pub id: u32,
    /// Its first event.
    pub first: Event,
    /// The applet whose callbacks were seen.
    pub applet: Option<u16>,
    /// Exit of its applet's `init`.
    pub init: Option<Event>,
    /// How the last call of its applet left it.
    pub left: Option<(State, Event)>,
    /// The last command.
    pub command: Option<CliCommand>,
    /// Enter of its applet's `release`.
    pub released: Option<Event>,
    address: (u32, u64),
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Appctxs {
    registered: BTreeMap<u16, Registered>,
    by_id: BTreeMap<u32, Appctx>,
    by_address: BTreeMap<(u32, u64), u32>,
    /// The probe that says that the server is about to stop on purpose.
    asked_too_much: Option<Event>,
    /// What the instrument could not wrap, in its words.
    unwrapped: Vec<String>,
    unjudged: Vec<Unjudged>,
}

/// A command of which something was not tried, or cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// The number of the trial.
    pub trial: u64,
    /// As it was asked.
    pub command: String,
    /// Why nothing is said of it.
    pub why: String,
}

impl Appctxs {
    /// The keyword or applet with this number.
    pub(super) fn registered_as(&self, number: u16) -> Option<&Registered> {
        self.registered.get(&number)
    }

    /// All of them.
    pub(super) fn all_registered(&self) -> impl Iterator<Item = &Registered> {
        self.registered.values()
    }

    /// How many keywords and applets of the server's own are recorded.
    pub(super) fn wrapped(&self) -> Wrapped {
        let of_server = self.registered.iter().filter(|(_, one)| !one.own);
        let (applets, keywords): (Vec<_>, Vec<_>) =
            of_server.partition(|(number, _)| **number >= FIRST_APPLET);
        Wrapped { keywords: keywords.len(), applets: applets.len() }
    }

    /// The first thing that the instrument could not wrap, in its words.
    pub(super) fn unwrapped(&self) -> Option<&str> {
        self.unwrapped.first().map(String::as_str)
    }

    /// Commands of which something was not tried.
    pub(super) fn unjudged(&self) -> &[Unjudged] {
        &self.unjudged
    }

    /// The appctx with this minted id.
    pub(super) fn appctx(&self, id: u32) -> Option<&Appctx> {
        self.by_id.get(&id)
    }

    /// All that are remembered.
    pub(super) fn appctxs(&self) -> impl Iterator<Item = &Appctx> {
        self.by_id.values()
    }

    /// A handler is about to ask for a larger context than fits: the server stops on purpose, if it does as it promises.
    pub(super) fn asked_too_much(&self) -> Option<&Event> {
        self.asked_too_much.as_ref()
    }

    pub(super) fn register(&mut self, event: &Event) {
        let words =
            event.text(Field::Keyword).map(|text| visible_line(&String::from_utf8_lossy(&text.bytes)));
        let registered =
            Registered { words: words.unwrap_or_default(), own: event.c != 0, callbacks: event.a };
        self.registered.insert(event.handle as u16, registered);
    }

    pub(super) fn probed(&mut self, event: &Event) {
        match event.probe() {
            Some(Probe::ReserveTooMuch) => self.asked_too_much = Some(event.clone()),
            Some(Probe::Unwrapped) => {
                let what =
                    event.text(Field::Message).map(|text| String::from_utf8_lossy(&text.bytes).into_owned());
                self.unwrapped.extend(what.map(|what| visible_line(&what)));
            }
            Some(Probe::Tried) if event.a == UNJUDGED => {
                let said =
                    |field| event.text(field).map(|text| String::from_utf8_lossy(&text.bytes).into_owned());
                let command = said(Field::Keyword).map(|text| visible_line(&text)).unwrap_or_default();
                let why = said(Field::Message).map(|text| visible_line(&text)).unwrap_or_default();
                self.unjudged.push(Unjudged { trial: event.b, command, why });
            }
            Some(Probe::Unrecorded) => {
                let command = self.by_id.get_mut(&event.handle).and_then(|appctx| appctx.command.as_mut());
                if let Some(command) = command {
                    command.unrecorded = true;
                }
            }
            _ => {}
        }
    }

    /// A call of a keyword or applet begins or ends.
    pub(super) fn called(&mut self, event: &Event) {
        let (Some(callback), Some(state)) = (event.callback(), State::of(event)) else { return };
        let enters = event.kind == Kind::Enter;
        if enters {
            self.meet(event);
        }
        // Where nobody knows what stands in the slots, they hold what the keyword was registered with: what else they hold
        // is not recorded.
        let keyword = self.registered.get(&state.number);
        let has = |callback| keyword.is_none_or(|keyword| keyword.has(callback));
        let usual = Slots { io_handler: has(Callback::IoHandler), io_release: has(Callback::IoRelease) };
        let Some(appctx) = self.by_id.get_mut(&event.handle) else { return };
        match (callback.is_keyword(), enters) {
            (true, true) => appctx.command_entered(callback, state.number, event),
            (true, false) => appctx.command_exited(callback, state, state.slots.unwrap_or(usual), event),
            (false, true) => {
                appctx.applet = appctx.applet.or(Some(state.number));
                if callback == Callback::Release {
                    appctx.released = appctx.released.take().or_else(|| Some(event.clone()));
                }
            }
            (false, false) => {
                if callback == Callback::Init {
                    appctx.init = Some(event.clone());
                }
                appctx.left = Some((state, event.clone()));
            }
        }
    }

    /// The first call of an appctx: whatever was at its address is gone.
    fn meet(&mut self, event: &Event) {
        if self.by_id.contains_key(&event.handle) {
            return;
        }
        let address = (event.pid, event.a);
        if let Some(before) = self.by_address.insert(address, event.handle) {
            self.by_id.remove(&before);
        }
        let appctx = Appctx {
            id: event.handle,
            first: event.clone(),
            applet: None,
            init: None,
            left: None,
            command: None,
            released: None,
            address,
        };
        self.by_id.insert(event.handle, appctx);
    }
}

impl Appctx {
    /// This call is the first of a command.
    pub fn begins(&self, callback: Callback, number: u16) -> bool {
        match callback {
            Callback::Parse => true,
            Callback::IoHandler => {
                !self.command.as_ref().is_some_and(|command| command.number == number && command.is_live())
            }
            _ => false,
        }
    }

    /// Address of its memory, and the process that has it.
    pub fn address(&self) -> (u32, u64) {
        self.address
    }

    fn command_entered(&mut self, callback: Callback, number: u16, event: &Event) {
        if self.begins(callback, number) {
            self.command = Some(CliCommand::new(number));
        }
        let Some(command) = &mut self.command else { return };
        match callback {
            Callback::IoHandler => command.calls += 1,
            Callback::IoRelease => command.released.push(event.clone()),
            _ => {}
        }
    }

    fn command_exited(&mut self, callback: Callback, state: State, slots: Slots, event: &Event) {
        let Some(command) = self.command.as_mut().filter(|command| command.number == state.number) else {
            return;
        };
        match callback {
            Callback::Parse => {
                command.over |= event.result() != 0 || !slots.io_handler;
                command.parsed = Some(event.clone());
            }
            Callback::IoHandler if event.result() != 0 => {
                command.done = true;
                command.over |= !slots.io_release;
            }
            Callback::IoRelease => command.over = true,
            _ => {}
        }
        command.left = Some((state, event.clone()));
    }
}
