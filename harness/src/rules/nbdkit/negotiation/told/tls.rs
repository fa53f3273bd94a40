//! Nothing without TLS where it is required, and nothing beyond STARTTLS that was negotiated before it.

use std::collections::BTreeSet;

use layers_trace::{Callback, Event, Field, Kind as EventKind, Operation};

use super::options::Options;
use super::{Choices, INFO_EXPORT};
use crate::history::ConnectionId;
use crate::protocol::transmission::SEND_DF;
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::run::Tls;
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.tls.required",
        since: Version(1, 1, 15),
        statement: "With --tls=require a client without TLS is told nothing: every option but STARTTLS and ABORT is refused with NBD_REP_ERR_TLS_REQD.",
        clause: "nbdkit-tls(1), --tls=require; the NBD protocol, NBD_REP_ERR_TLS_REQD and FORCEDTLS mode",
        antecedent: "--tls=require, and an option of a client that has not completed STARTTLS",
        good: "run tls=require; NBD_OPT_LIST {} = EINVAL context=0x80000005",
        bad: r#"run tls=require; NBD_OPT_LIST {} = 0 "main""#,
        also: &["conn.list.only-on-request"],
        fix: "refuse options before looking at them, until TLS is up",
        check: Checker::Trace(|| Box::new(Required::default())),
        ..Rule::REQUIRED
    },
    Rule {
        id: "nego.starttls.forgets",
        since: Version(1, 28, 0),
        statement: "STARTTLS ends what was negotiated before it: structured replies, metadata contexts and the default export.",
        clause: "nbdkit-security(1), CVE-2021-3716; the NBD protocol, NBD_OPT_STARTTLS; nbdkit-plugin(3), .default_export, is_tls",
        antecedent: "a client that completes STARTTLS after it has negotiated something, and goes on",
        good: r#"run tls=on; NBD_OPT_STRUCTURED_REPLY NBD_OPT_STARTTLS NBD_OPT_GO "a" { L0.open tls=1 queries }"#,
        bad: r#"run tls=on; NBD_OPT_STRUCTURED_REPLY NBD_OPT_STARTTLS NBD_OPT_GO "a" { L0.open tls=1 queries } = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|SEND_DF|MULTI_CONN|SEND_CACHE|SEND_FAST_ZERO"#,
        fix: "reset the state of the connection when TLS is up",
        check: Checker::Trace(|| Box::new(Forgets::default())),
        ..Rule::REQUIRED
    },
];

/// NBD_REP_ERR_TLS_REQD.
const TLS_REQUIRED: u64 = 1 << 31 | 5;

/// Nothing is told.
#[derive(Default)]
struct Required {
    /// Clients that have completed STARTTLS.
    secure: BTreeSet<u32>,
}

impl Check for Required {
    fn watches(&self) -> Watch {
        Watch::NONE.notes(EventKind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        use Operation::{
            Connect, ExportName, Go, Info, List, ListMetaContext, SetMetaContext, StartTls, StructuredReply,
            UnknownOption,
        };
        let reply = now.event;
        let requires = now.history.run().is_some_and(|run| run.tls == Tls::Require);
        let Some(operation) = reply.operation().filter(|_| requires) else { return };
        match operation {
            Connect => {
                self.secure.remove(&reply.handle);
            }
            StartTls if reply.result() == 0 => {
                self.secure.insert(reply.handle);
            }
            List | Info | Go | ExportName | StructuredReply | ListMetaContext | SetMetaContext
            | UnknownOption
                if !self.secure.contains(&reply.handle) =>
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
                let request =
                    now.history.client(reply.handle).and_then(|client| client.waits_for(reply.call));
                let events = request.map(|request| &request.event).into_iter().chain([reply]);
                report.expect(false, events, expected, actual);
            }
            _ => {}
        }
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
        let connection = now.history.client(now.event.handle).and_then(|client| client.connection);
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
        let gone = now.history.client(now.event.handle).is_none_or(|client| client.lost);
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
}

impl Check for Forgets {
    fn watches(&self) -> Watch {
        let calls = [Callback::DefaultExport, Callback::Open];
        Choices::WATCH.and(Options::WATCH).enters(&calls)
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

#[cfg(test)]
mod tests {
    use super::super::testing::{reply, with_option};
    use crate::rules::testing::*;
    use crate::run::{Run, Tls};
    use layers_trace::{Callback, Event, Field, Operation};

    /// Before STARTTLS everything is refused like this; behind it the client does what it likes.
    fn required(refusal: impl Fn(&mut Event)) -> Script {
        let script = served(&Run { tls: Tls::Require, ..run(2) });
        let script = with_option(script, Operation::StartTls, 0, &[]);
        let script = with_option(script, Operation::List, -1, &[]);
        reply(script, Operation::List, |reply| {
            reply.context = 1 << 31 | 5;
            refusal(reply);
        })
    }

    #[test]
    fn without_tls_nothing_is_told() {
        const RULE: &str = "nego.tls.required";
        exercised_and_holds(RULE, required(|_| {}));
        rejects(RULE, required(|reply| reply.a = 0));
        rejects(RULE, required(|reply| reply.context = 1 << 31 | 3));
        rejects(RULE, required(|reply| reply.texts = vec![text(Field::Export, "main")]));
        rejects(RULE, required(|reply| reply.d = 1));
        rejects(RULE, served(&Run { tls: Tls::Require, ..run(2) }));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn structured_replies_are_negotiated_anew() {
        const RULE: &str = "nego.starttls.forgets";
        let upgraded = with_option(reference(), Operation::StartTls, 0, &[]);
        let script = with_option(upgraded, Operation::StructuredReply, 0, &[]);
        let again = |result| {
            let starts = |event: &Event| event.operation() == Some(Operation::StartTls);
            let upgraded = script.events.iter().rposition(starts).unwrap();
            script.clone().with(upgraded + 1, |script| {
                let request = script.request(1, Operation::StructuredReply).position;
                script.reply(request, result);
            })
        };
        rejects(RULE, again(-1));
        exercised_and_holds(RULE, again(0));
        exercised_and_holds(RULE, script.clone());
        rejects(RULE, reply(script, Operation::Go, |reply| reply.b |= 1 << 7));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn the_default_export_is_asked_for_anew() {
        const RULE: &str = "nego.starttls.forgets";
        // An NBD_OPT_INFO for the empty name, and STARTTLS.
        let upgraded = |asks: bool| {
            let script = with_option(reference(), Operation::StartTls, 0, &[]);
            let place = script.events.iter().position(|event| event.operation() == Some(Operation::StartTls));
            let script = script.with(place.unwrap(), |script| {
                let info = script.request(1, Operation::Info).position;
                script.through(2, Callback::DefaultExport, 1, |event| {
                    event.context = if event.layer > 0 { backend(event.layer) } else { 0 };
                });
                script
                    .events
                    .iter_mut()
                    .rev()
                    .take(3)
                    .for_each(|exit| exit.texts = vec![text(Field::Export, "main")]);
                let handles = script.open(2, "main");
                script.close(&handles);
                script.reply(info, 0);
            });
            let layers = if asks { 0..0 } else { 0..3 };
            layers.fold(script, |script, layer| script.without(layer, Callback::DefaultExport, 1))
        };
        exercised_and_holds(RULE, upgraded(true));
        rejects(RULE, upgraded(false));
    }
}
