//! What the server knows without asking.

use layers_trace::Callback::{self, CanFastZero, CanFua, CanTrim, CanWrite, CanZero, Close, GetSize};

use crate::history::Handle;
use crate::rules::check::{Check, Now, Report, Rule, at, by, enters, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.readonly-shortcut",
        statement: "A layer whose handle was opened read-only is asked neither can_write nor what needs writing.",
        clause: "not in the manual",
        antecedent: "a handle opened read-only whose layer is asked for its size",
        good: r#"run readonly=1; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"run readonly=1; NBD_OPT_GO "a" { L0.open L0.can_write }"#,
        fix: "none needed; a layer should answer in any case",
        check: by!(spares(WRITING, GetSize, Handle::readonly)),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
    Rule {
        id: "nego.nowrite-shortcut",
        statement: "A layer that has answered 0 to can_write is asked nothing that needs writing.",
        clause: "not in the manual",
        antecedent: "a layer that answers 0 to can_write",
        good: r#"L0 can_write=0; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"NBD_OPT_GO "a" { L0.open L0.get_size L0.can_write = 0 L0.can_trim }"#,
        fix: "none needed; a layer should answer in any case",
        check: by!(spares(WRITING, CanWrite, |handle| handle.answer(CanWrite) == Some(0))),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
    Rule {
        id: "nego.nozero-shortcut",
        statement: "A filter that has answered NBDKIT_ZERO_NONE to can_zero is not asked can_fast_zero.",
        clause: "not in the manual",
        antecedent: "a filter that answers 0 to can_zero",
        good: r#"L1 can_zero=0; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"NBD_OPT_GO "a" { open prepare L1.can_write L1.can_zero = 0 L1.can_fast_zero }"#,
        fix: "none needed; a filter should answer in any case",
        check: by!(
            spares(&[CanFastZero], CanZero, |handle| handle.layer > 0 && handle.answer(CanZero) == Some(0))
        ),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
];

/// Queries about writing.
const WRITING: &[Callback] = &[CanWrite, CanZero, CanFastZero, CanTrim, CanFua];

/// A handle to which something applies is not asked these questions (again); the answer to `asked` tells that negotiation
/// has come so far.
fn spares(spared: &[Callback], asked: Callback, applies: fn(&Handle) -> bool) -> impl Check {
    at(enters(spared).enters(&[Close]), move |now: &Now<'_>, report: &mut Report<'_>| {
        let (call, handle) = (now.call?, now.handle.filter(|handle| applies(handle))?);
        if call.callback == Close {
            // The handle is counted when it goes, with all that it was asked.
            return report.exercised_if(handle.answered(asked).is_some());
        }
        // A second can_write is another rule's business.
        unless(call.callback == asked)?;
        let because = handle.answered(asked).filter(|_| !handle.readonly()).unwrap_or(&handle.open);
        report.broken(because, format!("L{} is not asked for {}", call.layer(), call.callback), "it is")
    })
}
