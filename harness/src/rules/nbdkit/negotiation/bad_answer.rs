//! Answers that no client may be told.

use layers_trace::{Callback, Event, Kind};

use super::asked_by_server;
use crate::rules::check::{Check, Now, Party, Report, Rule, Watch, by, exits};

/// The rules of this topic.
pub(super) const RULES: &[Rule] = &[Rule {
    id: "nego.size.range",
    statement: "A size is not negative; -1 reports an error, and then the client is refused.",
    clause: "nbdkit-plugin(3) and nbdkit-filter(3), .get_size",
    antecedent: "a plugin that is asked for its size",
    good: r#"NBD_OPT_GO "a""#,
    bad: r#"L0 target="p.so"; NBD_OPT_GO "a" { open prepare L0.get_size = -4096 }"#,
    fix: "return the size in bytes, or -1 after nbdkit_error",
    check: by!({
        let is_bad = |exit: &Event| exit.result() < -1;
        BadAnswer::new(Callback::GetSize, is_bad, "a size of 0 or more, or -1")
    }),
    ..Rule::REQUIRED.of(Party::Plugin)
}];

/// A plugin's answer is within bounds. An answer that is not never ends in an export that the client may use.
///
/// A reference plugin gives bad answers on purpose, so it is not blamed for them.
pub(super) struct BadAnswer {
    query: Callback,
    is_bad: fn(&Event) -> bool,
    bounds: &'static str,
    /// What the server got that it cannot pass on, and the request that it should therefore refuse.
    refused: Vec<(u32, Event)>,
}

impl BadAnswer {
    pub(super) fn new(query: Callback, is_bad: fn(&Event) -> bool, bounds: &'static str) -> BadAnswer {
        BadAnswer { query, is_bad, bounds, refused: Vec::new() }
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let bad = call.layer() == 0 && (self.is_bad)(now.event);
        let wrapped = now.history.layer(call.layer()).is_some_and(|layer| layer.target.is_some());
        if call.layer() == 0 && (wrapped || !bad && now.event.result() >= 0) {
            report.exercised();
            if bad {
                let (minimum, preferred, maximum) = now.event.block_size();
                let actual = match self.query {
                    Callback::BlockSize => format!("{minimum}, {preferred}, {maximum}"),
                    _ => now.event.result().to_string(),
                };
                report.broken([&call.enter, now.event], self.bounds, actual);
            }
        }
        if !(bad || now.event.result() < 0) || !asked_by_server(now.history, call) {
            return;
        }
        let client = call.connection.and_then(|connection| now.history.client_of(connection));
        // Of several options in one write nobody can tell which is being served.
        let client = client.filter(|client| !client.pipelines);
        let option = client.and_then(|client| client.last_option.as_ref());
        let waits = |request: u32| {
            client.is_some_and(|client| client.waiting.iter().any(|other| other.event.position == request))
        };
        if let Some(option) = option.filter(|option| waits(option.event.position)) {
            self.refused.push((option.event.position, now.event.clone()));
        }
    }
}

impl Check for BadAnswer {
    fn watches(&self) -> Watch {
        exits(&[self.query]).notes(Kind::Reply)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind != Kind::Reply {
            return self.answered(now, report);
        }
        let Some(index) = self.refused.iter().position(|(request, _)| *request == now.event.call) else {
            return;
        };
        let (_, answer) = self.refused.swap_remove(index);
        report.exercised();
        if now.event.result() == 0 {
            report.broken([&answer, now.event], "the client is refused", "it may go on");
        }
    }
}
