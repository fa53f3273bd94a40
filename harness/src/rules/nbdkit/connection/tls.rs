//! nbdkit-plugin(3), the `is_tls` argument.

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::negotiates;
use crate::history::ConnectionId;
use crate::rules::check::{Now, Report, Rule, by, enters_where, remembering};
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
    check: by!(remembering(enters_where(negotiates).notes(Kind::Reply), TlsFlag::see)),
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

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind == Kind::Reply {
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
