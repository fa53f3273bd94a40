//! HAProxy: what a keyword of its command line, and an applet, may rely on in their appctx.
//!
//! The promises are those of HAProxy's internals document on applet contexts (doc/internals/api/appctx.txt).

mod applet;
mod print;
mod release;
mod reserve;
mod storage;
mod svcctx;
#[cfg(test)]
mod testing;

use layers_trace::Callback;
use layers_trace::appctx::{Context, State};

use crate::history::{Appctx, Command, Registered};
use crate::rules::check::Now;
use crate::rules::check::Rule;
use crate::version::Version;

/// The rules of this family.
pub(super) const RULES: &[&[Rule]] =
    &[svcctx::RULES, storage::RULES, reserve::RULES, print::RULES, release::RULES, applet::RULES];

/// The document that most of them come from.
const APPCTX: &str = "doc/internals/api/appctx.txt";
/// The first version with `svcctx`.
const SVCCTX: Version = Version(2, 6, 0);
/// The oldest version that is looked at.
const ALL: Version = Version(2, 2, 0);

/// A call of a keyword or applet, with what was known of its appctx just before.
struct Seen<'a> {
    callback: Callback,
    state: State,
    /// `None` at its first call.
    appctx: Option<&'a Appctx>,
    registered: Option<&'a Registered>,
}

impl<'a> Seen<'a> {
    fn of(now: &Now<'a>) -> Option<Seen<'a>> {
        let (event, state) = (now.event, State::of(now.event)?);
        Some(Seen {
            callback: event.callback()?,
            state,
            appctx: now.history.appctx(event.handle),
            registered: now.history.registered_as(state.number),
        })
    }

    fn context(&self) -> Option<Context> {
        self.state.context
    }

    /// The command that the call belongs to, where it does not begin one.
    fn command(&self) -> Option<&'a Command> {
        let command = self.appctx?.command.as_ref()?;
        (!self.begins() && command.number == self.state.number).then_some(command)
    }

    /// The first call of a command.
    fn begins(&self) -> bool {
        match self.appctx {
            Some(appctx) => appctx.begins(self.callback, self.state.number),
            None => matches!(self.callback, Callback::Parse | Callback::IoHandler),
        }
    }

    /// The keyword or applet has this callback.
    fn has(&self, callback: Callback) -> bool {
        self.registered.is_some_and(|registered| registered.has(callback))
    }
}

/// As a finding shows it.
fn shown(context: Context) -> String {
    use layers_trace::appctx::Place;
    match context.place {
        Place::Null => "svcctx is NULL".to_owned(),
        Place::Storage => "svcctx is the storage area".to_owned(),
        Place::Elsewhere => "svcctx points elsewhere".to_owned(),
    }
}
