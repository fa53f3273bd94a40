//! Nothing without TLS where it is required, and nothing beyond STARTTLS that was negotiated before it.

use std::collections::BTreeSet;

use layers_trace::Callback::{DefaultExport, Open};
use layers_trace::{Event, Field, Kind, Operation};

use super::super::super::wire::is_option;
use super::Choices;
use super::options::Options;
use crate::protocol::info;
use crate::protocol::transmission::SEND_DF;
use crate::rules::check::{Now, PerConnection, Report, Rule, Said, by, given, notes, remembering, unless};
use crate::run::Tls;

pub(in super::super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.tls.required",
        statement: "With --tls=require a client without TLS is told nothing: every option but STARTTLS and ABORT is refused with NBD_REP_ERR_TLS_REQD.",
        clause: "nbdkit-tls(1), --tls=require; the NBD protocol, NBD_REP_ERR_TLS_REQD and FORCEDTLS mode",
        antecedent: "--tls=require, and an option of a client that has not completed STARTTLS",
        good: "run tls=require; NBD_OPT_LIST {} = EINVAL context=0x80000005",
        bad: r#"run tls=require; NBD_OPT_LIST {} = 0 "main""#,
        also: &["conn.list.only-on-request"],
        fix: "refuse options before looking at them, until TLS is up",
        check: by!(remembering(notes(&[Kind::Reply]), required)),
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
            Choices::WATCH.and(Options::WATCH).enters(&[DefaultExport, Open]),
            Forgets::see
        )),
        ..Rule::REQUIRED.since(1, 28, 0)
    },
];

/// NBD_REP_ERR_TLS_REQD.
const TLS_REQUIRED: u64 = 1 << 31 | 5;

/// Nothing is told; `secure` are the clients that have completed STARTTLS.
fn required(secure: &mut BTreeSet<u32>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let reply = now.event;
    given(now.history.run()?.tls == Tls::Require)?;
    if now.is_about(Operation::Connect) {
        secure.remove(&reply.handle);
    } else if now.succeeds(Operation::StartTls) {
        secure.insert(reply.handle);
    }
    given(is_option(reply.operation()?) && !now.is_about(Operation::StartTls))?;
    unless(secure.contains(&reply.handle))?;
    let texts = reply.texts.iter().any(|text| text.field != Field::Message);
    let expected = match reply.operation() {
        Some(Operation::ExportName) => "the connection is closed: NBD_OPT_EXPORT_NAME cannot be refused",
        _ => "NBD_REP_ERR_TLS_REQD and nothing else",
    };
    let actual = if reply.result() == 0 {
        "a success".to_owned()
    } else if texts || reply.d != 0 {
        "the client is told something of the exports".to_owned()
    } else if reply.context != 0 && reply.context != TLS_REQUIRED {
        format!("the option is refused with {:#x}", reply.context)
    } else {
        return report.exercised();
    };
    report.expect(false, now.request(), expected, actual)
}

/// What was negotiated in the clear does not hold.
#[derive(Default)]
struct Forgets {
    choices: Choices,
    options: Options,
    /// Connections whose default export was asked for before STARTTLS, with the reply to that.
    stale: PerConnection<Event>,
}

impl Forgets {
    fn upgraded(&mut self, now: &Now<'_>) -> Said {
        let (connection, outermost) = (now.connection()?, now.history.outermost(DefaultExport)?);
        now.history.connection(connection)?.named(outermost)?;
        self.stale.renew(now.history, connection, now.event.clone())
    }

    /// A client that asks for structured replies once more gets them: the first ones are forgotten.
    fn anew(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        given(now.is_about(Operation::StructuredReply) && !now.client()?.lost)?;
        let upgrade = self.options.forgotten(now.event.handle)?;
        let expected = "structured replies are granted: those of before STARTTLS are forgotten";
        report.expect(now.event.result() == 0, upgrade, expected, "they are refused")
    }

    fn called(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let call = now.call.filter(|call| now.history.is_for_client(call))?;
        let connection = call.connection.filter(|connection| self.stale.has(*connection))?;
        if call.callback == DefaultExport {
            given(now.history.outermost(DefaultExport) == Some(call.layer()))?;
            self.stale.take(connection);
            return report.exercised();
        }
        // The empty name has to be looked up.
        given(now.served()?.selects()?.event.text(Field::Export)?.bytes.is_empty())?;
        let upgrade = self.stale.take(connection)?;
        report.expect(false, &upgrade, "the default export is asked for anew", "open comes without that")
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if matches!(now.event.callback(), Some(DefaultExport | Open)) {
            return self.called(now, report);
        }
        self.anew(now, report);
        self.options.see(now);
        if now.is_about(Operation::BlockStatus) {
            let upgrade = self.options.unset(now.event.handle)?;
            let expected = "block status is refused: its context was set before STARTTLS only";
            return report.expect(now.event.result() != 0, upgrade, expected, "it is served");
        }
        if now.succeeds(Operation::StartTls) {
            self.upgraded(now);
        }
        let told = self.choices.see(now).filter(|told| told.has(info::EXPORT))?;
        let upgrade = self.options.forgotten(told.reply.handle)?;
        let holds = told.reply.b & SEND_DF == 0;
        let expected = "no NBD_FLAG_SEND_DF: structured replies were negotiated before STARTTLS only";
        report.expect(holds, upgrade, expected, "NBD_FLAG_SEND_DF")
    }
}
