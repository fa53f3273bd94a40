//! What the server knows without asking.

use layers_trace::Callback;

use crate::history::Handle;
use crate::rules::check::{Check, Now, Report, Rule, Watch, by, enters};

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.readonly-shortcut",
        statement: "A layer whose handle was opened read-only is asked neither can_write nor what needs writing.",
        clause: "not in the manual",
        antecedent: "a handle opened read-only whose layer is asked for its size",
        good: r#"run readonly=1; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"run readonly=1; NBD_OPT_GO "a" { L0.open L0.can_write }"#,
        fix: "none needed; a layer should answer in any case",
        check: by!(Spared { asked: Callback::GetSize, applies: Handle::readonly, spared: WRITING }),
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
        check: by!(Spared {
            asked: Callback::CanWrite,
            applies: |handle| handle.answer(Callback::CanWrite) == Some(0),
            spared: WRITING,
        }),
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
        check: by!(Spared {
            asked: Callback::CanZero,
            applies: |handle| handle.layer > 0 && handle.answer(Callback::CanZero) == Some(0),
            spared: &[Callback::CanFastZero],
        }),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
];

/// Queries about writing.
const WRITING: &[Callback] =
    &[Callback::CanWrite, Callback::CanZero, Callback::CanFastZero, Callback::CanTrim, Callback::CanFua];

/// A handle to which something applies is not asked these questions (again).
struct Spared {
    /// The question whose answer tells that negotiation has come so far.
    asked: Callback,
    applies: fn(&Handle) -> bool,
    spared: &'static [Callback],
}

impl Check for Spared {
    fn watches(&self) -> Watch {
        enters(self.spared).enters(&[Callback::Close])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let (Some(call), Some(handle)) = (now.call, now.handle) else { return };
        if !(self.applies)(handle) {
            return;
        }
        if call.callback == Callback::Close {
            // The handle is counted when it goes, with all that it was asked.
            report.exercised_if(handle.answered(self.asked).is_some());
            return;
        }
        // A second can_write is another rule's business.
        if call.callback == self.asked {
            return;
        }
        let answer = handle.answered(self.asked).unwrap_or(&handle.open);
        let because = std::iter::once(if handle.readonly() { &handle.open } else { answer });
        report.broken(
            because.chain([now.event]),
            format!("L{} is not asked for {}", call.layer(), call.callback),
            "it is",
        );
    }
}
