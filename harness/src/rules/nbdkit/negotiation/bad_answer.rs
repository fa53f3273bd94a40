//! Answers that no client may be told.

use layers_trace::Callback::{self, BlockSize, GetSize};
use layers_trace::{Event, Kind};

use super::asked_by_server;
use crate::rules::check::{Check, Kept, Now, Party, Report, Rule, by, exits, given, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "nego.size.range",
    statement: "A size is not negative; -1 reports an error, and then the client is refused.",
    clause: "nbdkit-plugin(3) and nbdkit-filter(3), .get_size",
    antecedent: "a plugin that is asked for its size",
    good: r#"NBD_OPT_GO "a""#,
    bad: r#"L0 target="p.so"; NBD_OPT_GO "a" { open prepare L0.get_size = -4096 }"#,
    fix: "return the size in bytes, or -1 after nbdkit_error",
    check: by!(bad_answer(GetSize, |exit| exit.result() < -1, "a size of 0 or more, or -1")),
    ..Rule::REQUIRED.of(Party::Plugin)
}];

/// What the server got that it cannot pass on, by the request that it should therefore refuse.
type Refused = Kept<u32, Event>;

/// A plugin's answer to this query is within bounds. An answer that is not never ends in an export that the client may use.
///
/// A reference plugin gives bad answers on purpose, so it is not blamed for them.
pub(super) fn bad_answer(query: Callback, is_bad: fn(&Event) -> bool, bounds: &'static str) -> impl Check {
    let watch = exits(&[query]).notes(&[Kind::Reply]);
    remembering(watch, move |refused: &mut Refused, now: &Now<'_>, report: &mut Report<'_>| {
        if now.event.kind == Kind::Reply {
            let answer = refused.take(now.event.call)?;
            return report.expect(now.event.result() != 0, &answer, "the client is refused", "it may go on");
        }
        let call = now.call?;
        let bad = call.layer() == 0 && is_bad(now.event);
        let wrapped = now.history.is_foreign(call.layer());
        if call.layer() == 0 && (wrapped || !bad && now.event.result() >= 0) {
            let (minimum, preferred, maximum) = now.event.block_size();
            let actual = match query {
                BlockSize => format!("{minimum}, {preferred}, {maximum}"),
                _ => now.event.result().to_string(),
            };
            report.expect(!bad, call, bounds, actual);
        }
        given((bad || now.event.result() < 0) && asked_by_server(now.history, call))?;
        // Of several options in one write nobody can tell which is being served.
        let client = now.served().filter(|client| !client.pipelines)?;
        let option = client.last_option.as_ref()?.event.position;
        client.waits_for(option).filter(|_| !refused.has(option))?;
        refused.set(option, now.event.clone())
    })
}
