//! Nothing without TLS where it is required, and nothing beyond STARTTLS that was negotiated before it.

use std::collections::BTreeSet;

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::options::Options;
use super::{Choices, INFO_EXPORT};
use crate::history::ConnectionId;
use crate::protocol::transmission::SEND_DF;
use crate::rules::check::{Now, Report, Rule, by, notes, remembering};
use crate::run::Tls;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.tls.required",
        statement: "With --tls=require a client without TLS is told nothing: every option but STARTTLS and ABORT is refused with NBD_REP_ERR_TLS_REQD.",
        clause: "nbdkit-tls(1), --tls=require; the NBD protocol, NBD_REP_ERR_TLS_REQD and FORCEDTLS mode",
        antecedent: "--tls=require, and an option of a client that has not completed STARTTLS",
        good: "run tls=require; NBD_OPT_LIST {} = EINVAL context=0x80000005",
        bad: r#"run tls=require; NBD_OPT_LIST {} = 0 "main""#,
        also: &["conn.list.only-on-request"],
        fix: "refuse options before looking at them, until TLS is up",
        check: by!(remembering(notes(Kind::Reply), required)),
        ..Rule::REQUIRED.since(1, 1, 15)
    },
    Rule {
        id: "nego.starttls.forgets",
        statement: "STARTTLS ends what was negotiated before it: structured replies, metadata contexts and the default export.",
        clause: "nbdkit-security(1), CVE-2021-3716; the NBD protocol, NBD_OPT_STARTTLS; nbdkit-plugin(3), .default_export, is_tls",
        antecedent: "a client that completes STARTTLS after it has negotiated something, and goes on",
        good: r#"run tls=on; NBD_OPT_STRUCTURED_REPLY NBD_OPT_STARTTLS NBD_OPT_GO "a" { L0.open tls=1 queries }"#,
        bad: r#"run tls=on; NBD_OPT_STRUCTURED_REPLY NBD_OPT_STARTTLS NBD_OPT_GO "a" { L0.open tls=1 queries } = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|SEND_DF|MULTI_CONN|SEND_CACHE|SEND_FAST_ZERO"#,
        fix: "reset the state of the connection when TLS is up",
        check: by!(remembering(
            {
                let calls = [Callback::DefaultExport, Callback::Open];
                Choices::WATCH.and(Options::WATCH).enters(&calls)
            },
            Forgets::see
        )),
        ..Rule::REQUIRED.since(1, 28, 0)
    },
];

/// NBD_REP_ERR_TLS_REQD.
const TLS_REQUIRED: u64 = 1 << 31 | 5;

/// Nothing is told.
fn required(secure: &mut BTreeSet<u32>, now: &Now<'_>, report: &mut Report<'_>) {
    use Operation::{
        Connect, ExportName, Go, Info, List, ListMetaContext, SetMetaContext, StartTls, StructuredReply,
        UnknownOption,
    };
    let reply = now.event;
    let requires = now.history.run().is_some_and(|run| run.tls == Tls::Require);
    let Some(operation) = reply.operation().filter(|_| requires) else { return };
    match operation {
        Connect => {
            secure.remove(&reply.handle);
        }
        StartTls if reply.result() == 0 => {
            secure.insert(reply.handle);
        }
        List | Info | Go | ExportName | StructuredReply | ListMetaContext | SetMetaContext
        | UnknownOption
            if !secure.contains(&reply.handle) =>
        {
            let texts = reply.texts.iter().any(|text| text.field != Field::Message);
            let expected = match operation {
                ExportName => "the connection is closed: NBD_OPT_EXPORT_NAME cannot be refused",
                _ => "NBD_REP_ERR_TLS_REQD and nothing else",
            };
            let actual = if reply.result() == 0 {
                "a success".to_owned()
            } else if texts || reply.d != 0 {
                "the client is told something of the exports".to_owned()
            } else if reply.context != 0 && reply.context != TLS_REQUIRED {
                format!("the option is refused with {:#x}", reply.context)
            } else {
                report.exercised();
                return;
            };
            let events = now.request().map(|request| &request.event).into_iter().chain([reply]);
            report.expect(false, events, expected, actual);
        }
        _ => {}
    }
}

/// What was negotiated in the clear does not hold.
#[derive(Default)]
struct Forgets {
    choices: Choices,
    options: Options,
    /// Connections whose default export was asked for before STARTTLS, with the reply to that.
    stale: Vec<(ConnectionId, Event)>,
}

impl Forgets {
    fn upgraded(&mut self, now: &Now<'_>) {
        let connection = now.client().and_then(|client| client.connection);
        let outermost = now.history.outermost(Callback::DefaultExport);
        let (Some(id), Some(outermost)) = (connection, outermost) else { return };
        let connection = now.history.connection(id);
        if connection.is_some_and(|connection| connection.named(outermost).is_some()) {
            self.stale.retain(|(other, _)| *other != id && now.history.connection(*other).is_some());
            self.stale.push((id, now.event.clone()));
        }
    }

    /// A client that asks for structured replies once more gets them: the first ones are forgotten.
    fn anew(&self, now: &Now<'_>, report: &mut Report<'_>) {
        let gone = now.client().is_none_or(|client| client.lost);
        if now.event.operation() != Some(Operation::StructuredReply) || gone {
            return;
        }
        let Some(upgrade) = self.options.forgotten(now.event.handle) else { return };
        let holds = now.event.result() == 0;
        let expected = "structured replies are granted: those of before STARTTLS are forgotten";
        report.expect(holds, [upgrade, now.event], expected, "they are refused");
    }

    fn called(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call.filter(|call| now.history.is_for_client(call)) else { return };
        let Some(index) = self.stale.iter().position(|(id, _)| Some(*id) == call.connection) else { return };
        if call.callback == Callback::DefaultExport {
            if now.history.outermost(Callback::DefaultExport) == Some(call.layer()) {
                report.exercised();
                self.stale.swap_remove(index);
            }
            return;
        }
        // The empty name has to be looked up.
        let client = call.connection.and_then(|id| now.history.client_of(id));
        let Some(request) = client.and_then(|client| client.selects()) else { return };
        if request.event.text(Field::Export).is_some_and(|name| name.bytes.is_empty()) {
            let (_, upgrade) = self.stale.swap_remove(index);
            let expected = "the default export is asked for anew";
            report.expect(false, [&upgrade, now.event], expected, "open comes without that");
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if matches!(now.event.callback(), Some(Callback::DefaultExport | Callback::Open)) {
            self.called(now, report);
            return;
        }
        self.anew(now, report);
        self.options.see(now);
        if now.event.operation() == Some(Operation::BlockStatus) {
            if let Some(upgrade) = self.options.unset(now.event.handle) {
                let holds = now.event.result() != 0;
                let expected = "block status is refused: its context was set before STARTTLS only";
                report.expect(holds, [upgrade, now.event], expected, "it is served");
            }
            return;
        }
        if now.event.operation() == Some(Operation::StartTls) && now.event.result() == 0 {
            self.upgraded(now);
        }
        let Some(told) = self.choices.see(now).filter(|told| told.has(INFO_EXPORT)) else { return };
        let Some(upgrade) = self.options.forgotten(told.reply.handle) else { return };
        let holds = told.reply.b & SEND_DF == 0;
        let expected = "no NBD_FLAG_SEND_DF: structured replies were negotiated before STARTTLS only";
        report.expect(holds, [upgrade, told.reply], expected, "NBD_FLAG_SEND_DF");
    }
}
