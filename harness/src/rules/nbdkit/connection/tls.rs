//! nbdkit-plugin(3), the `is_tls` argument.

use layers_trace::{Callback, Event, Field, Kind as EventKind, Operation};

use super::negotiates;
use crate::history::ConnectionId;
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::run::Tls;
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "conn.tls.flag",
    since: Version(1, 21, 24),
    statement: "is_tls says whether the client has completed STARTTLS; with --tls=require nothing else gets this far.",
    clause: "nbdkit-plugin(3), .list_exports, .default_export and .open; nbdkit(1), --tls",
    antecedent: "a list_exports, default_export or open whose is_tls is known",
    good: "run tls=require; NBD_OPT_STARTTLS NBD_OPT_LIST { L0.list_exports tls=1 }",
    bad: "run tls=require; NBD_OPT_STARTTLS NBD_OPT_LIST { L0.list_exports tls=0 }",
    fix: "take is_tls from the state of the connection when the callback is made",
    check: Checker::Trace(|| Box::new(TlsFlag::default())),
    ..Rule::REQUIRED
}];

/// The flag is what the connection is.
#[derive(Default)]
struct TlsFlag {
    /// Connections whose client has completed STARTTLS, with the reply that says so.
    secure: Vec<(ConnectionId, Event)>,
}

impl TlsFlag {
    /// What the flag must be, and since when; `None` where that is unknown.
    fn expected(&self, now: &Now<'_>, tls: Tls) -> Option<(bool, Option<&Event>)> {
        match tls {
            Tls::Off => Some((false, None)),
            Tls::Require => Some((true, None)),
            Tls::On => {
                let call = now.call.filter(|call| now.history.is_for_client(call))?;
                let client = call.connection.and_then(|id| now.history.client_of(id))?;
                // Until the reply is here the server may be on either side of the handshake.
                if client.awaits(Operation::StartTls).is_some() {
                    return None;
                }
                let secure = self.secure.iter().find(|(id, _)| Some(*id) == client.connection);
                Some((secure.is_some(), secure.map(|(_, reply)| reply)))
            }
        }
    }
}

impl Check for TlsFlag {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(negotiates).notes(EventKind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind == EventKind::Reply {
            if now.event.operation() == Some(Operation::StartTls) && now.event.result() == 0 {
                let client = now.history.client(now.event.handle);
                self.secure.retain(|(id, _)| now.history.connection(*id).is_some());
                let connection = client.and_then(|client| client.connection);
                self.secure.extend(connection.map(|id| (id, now.event.clone())));
            }
            return;
        }
        // A plugin's open is not told; the instrument asks, but only where that is safe, and then for the name too.
        let is_open = now.event.callback() == Some(Callback::Open);
        if is_open && now.event.layer == 0 && now.event.text(Field::Export).is_none() {
            return;
        }
        let Some(run) = now.history.run() else { return };
        let Some((expected, since)) = self.expected(now, run.tls) else { return };
        report.exercised();
        if now.event.is_tls() != expected {
            let said = |is_tls: bool| if is_tls { "is_tls 1" } else { "is_tls 0" };
            report.broken(since.into_iter().chain([now.event]), said(expected), said(!expected));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use crate::run::{Run, Tls};
    use layers_trace::{Callback, Kind, Operation};

    const RULE: &str = "conn.tls.flag";
    const TOLD: [Callback; 3] = [Callback::ListExports, Callback::DefaultExport, Callback::Open];

    /// The client completes STARTTLS right after it has connected.
    fn upgraded(tls: Tls) -> Script {
        let good = served(&Run { tls, ..run(2) });
        let list = good.index(Kind::Enter, 2, Callback::ListExports, 0) - 1;
        let mut script = good.with(list, |script| {
            let upgrade = script.request(1, Operation::StartTls).position;
            script.reply(upgrade, 0);
        });
        for event in &mut script.events {
            if event.kind == Kind::Enter && event.callback().is_some_and(|c| TOLD.contains(&c)) {
                event.c = 1;
            }
        }
        script
    }

    #[test]
    fn layers_are_told_of_tls() {
        accepts(RULE, reference());
        accepts(RULE, upgraded(Tls::On));
        accepts(RULE, upgraded(Tls::Require));
        accepts(RULE, served(&Run { tls: Tls::On, ..run(2) }));
        for callback in TOLD {
            rejects(RULE, reference().changed(Kind::Enter, 2, callback, 0, |event| event.c = 1));
            for tls in [Tls::On, Tls::Require] {
                rejects(RULE, upgraded(tls).changed(Kind::Enter, 1, callback, 0, |event| event.c = 0));
            }
        }
    }

    #[test]
    fn a_plugin_that_cannot_be_asked_is_not_judged() {
        let change = |event: &mut layers_trace::Event| (event.c, event.texts) = (0, Vec::new());
        let script = upgraded(Tls::Require).changed(Kind::Enter, 0, Callback::Open, 0, change);
        assert!(!broken(script).contains(&RULE));
    }
}
