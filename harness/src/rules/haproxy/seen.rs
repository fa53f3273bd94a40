//! One call of a keyword or applet, with its appctx.

use layers_trace::Callback::{self, IoHandler, Parse};
use layers_trace::appctx::{Context, State};

use crate::history::{Appctx, CliCommand, Registered};
use crate::rules::check::{Now, Rule};
use crate::version::Version;

/// The document that most of them come from.
pub(super) const APPCTX: &str = "doc/internals/api/appctx.txt";

/// The first version with `svcctx`.
pub(super) const SVCCTX: Version = Version(2, 6, 0);

/// A row of this family: most of them come from that document, and hold since then.
pub(super) const REQUIRED: Rule = Rule { clause: APPCTX, ..Rule::REQUIRED.from(SVCCTX) };
/// The same, of what must never happen.
pub(super) const FORBIDDEN: Rule = Rule { clause: APPCTX, ..Rule::FORBIDDEN.from(SVCCTX) };

/// The oldest version that is looked at.
pub(super) const ALL: Version = Version(2, 2, 0);

/// A call of a keyword or applet, with what was known of its appctx just before.
pub(super) struct Seen<'a> {
    pub(super) callback: Callback,
    pub(super) state: State,
    /// `None` at its first call.
    pub(super) appctx: Option<&'a Appctx>,
    pub(super) registered: Option<&'a Registered>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(now: &Now<'a>) -> Option<Seen<'a>> {
        let (event, state) = (now.event, State::of(now.event)?);
        Some(Seen {
            callback: event.callback()?,
            state,
            appctx: now.history.appctx(event.handle),
            registered: now.history.registered_as(state.number),
        })
    }

    /// The command that the call belongs to, where it does not begin one.
    pub(super) fn command(&self) -> Option<&'a CliCommand> {
        let command = self.appctx?.command.as_ref()?;
        (!self.begins() && command.number == self.state.number).then_some(command)
    }

    /// The first call of a command.
    pub(super) fn begins(&self) -> bool {
        match self.appctx {
            Some(appctx) => appctx.begins(self.callback, self.state.number),
            None => matches!(self.callback, Parse | IoHandler),
        }
    }

    /// The keyword or applet has this callback.
    pub(super) fn has(&self, callback: Callback) -> bool {
        self.registered.is_some_and(|registered| registered.has(callback))
    }
}

/// As a finding shows it.
pub(super) fn shown(context: Context) -> String {
    use layers_trace::appctx::Place;
    match context.place {
        Place::Null => "svcctx is NULL".to_owned(),
        Place::Storage => "svcctx is the storage area".to_owned(),
        Place::Elsewhere => "svcctx points elsewhere".to_owned(),
    }
}
