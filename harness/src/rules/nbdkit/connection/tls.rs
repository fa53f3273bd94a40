//! nbdkit-plugin(3), the `is_tls` argument.

use layers_trace::Callback::Open;
use layers_trace::{Event, Field, Kind, Operation};

use super::negotiates;
use crate::rules::check::{
    Now, PerConnection, Report, Rule, Said, by, enters_where, given, remembering, unless,
};
use crate::run::Tls;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "conn.tls.flag",
    statement: "is_tls says whether the client has completed STARTTLS; with --tls=require nothing else gets this far.",
    clause: "nbdkit-plugin(3), .list_exports, .default_export and .open; nbdkit(1), --tls",
    antecedent: "a list_exports, default_export or open whose is_tls is known",
    good: "run tls=require; NBD_OPT_STARTTLS NBD_OPT_LIST { L0.list_exports tls=1 }",
    bad: "run tls=require; NBD_OPT_STARTTLS NBD_OPT_LIST { L0.list_exports tls=0 }",
    fix: "take is_tls from the state of the connection when the callback is made",
    check: by!(remembering(enters_where(negotiates).notes(&[Kind::Reply]), is_as_connection)),
    ..Rule::REQUIRED.since(1, 21, 24)
}];

/// The flag is what the connection is; `secure` are those whose client has completed STARTTLS, with the reply that says so.
fn is_as_connection(secure: &mut PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.event.kind == Kind::Reply {
        given(now.succeeds(Operation::StartTls))?;
        return secure.renew(now.history, now.connection()?, now.event.clone());
    }
    // A plugin's open is not told; the instrument asks, but only where that is safe, and then for the name too.
    unless(now.is(Open) && now.event.layer == 0 && now.event.text(Field::Export).is_none())?;
    let (expected, since) = match now.history.run()?.tls {
        Tls::Off => (false, None),
        Tls::Require => (true, None),
        Tls::On => {
            now.call.filter(|call| now.history.is_for_client(call))?;
            // Until the reply is here the server may be on either side of the handshake.
            unless(now.served()?.awaits(Operation::StartTls).is_some())?;
            let since = secure.get(now.connection()?);
            (since.is_some(), since)
        }
    };
    report.same(since, expected, now.event.is_tls(), |set| if set { "is_tls 1" } else { "is_tls 0" })
}
