//! What the server knows without asking.

use layers_trace::Callback;

use crate::history::Handle;
use crate::rules::check::{Check, Checker, Now, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.readonly-shortcut",
        since: Version(1, 15, 1),
        statement: "A layer whose handle was opened read-only is asked neither can_write nor what needs writing.",
        clause: "not in the manual",
        antecedent: "a handle opened read-only whose layer is asked for its size",
        good: r#"run readonly=1; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"run readonly=1; NBD_OPT_GO "a" { L0.open L0.can_write }"#,
        fix: "none needed; a layer should answer in any case",
        check: Checker::Trace(|| {
            Box::new(Spared { asked: Callback::GetSize, applies: Handle::readonly, spared: WRITING })
        }),
        ..Rule::OBSERVED
    },
    Rule {
        id: "nego.nowrite-shortcut",
        since: Version(1, 15, 1),
        statement: "A layer that has answered 0 to can_write is asked nothing that needs writing.",
        clause: "not in the manual",
        antecedent: "a layer that answers 0 to can_write",
        good: r#"L0 can_write=0; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"NBD_OPT_GO "a" { L0.open L0.get_size L0.can_write = 0 L0.can_trim }"#,
        fix: "none needed; a layer should answer in any case",
        check: Checker::Trace(|| {
            Box::new(Spared {
                asked: Callback::CanWrite,
                applies: |handle| handle.answer(Callback::CanWrite) == Some(0),
                spared: WRITING,
            })
        }),
        ..Rule::OBSERVED
    },
    Rule {
        id: "nego.nozero-shortcut",
        since: Version(1, 15, 1),
        statement: "A filter that has answered NBDKIT_ZERO_NONE to can_zero is not asked can_fast_zero.",
        clause: "not in the manual",
        antecedent: "a filter that answers 0 to can_zero",
        good: r#"L1 can_zero=0; NBD_OPT_GO "a" NBD_CMD_DISC"#,
        bad: r#"NBD_OPT_GO "a" { open prepare L1.can_write L1.can_zero = 0 L1.can_fast_zero }"#,
        fix: "none needed; a filter should answer in any case",
        check: Checker::Trace(|| {
            Box::new(Spared {
                asked: Callback::CanZero,
                applies: |handle| handle.layer > 0 && handle.answer(Callback::CanZero) == Some(0),
                spared: &[Callback::CanFastZero],
            })
        }),
        ..Rule::OBSERVED
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
        Watch::NONE.enters(self.spared).enters(&[Callback::Close])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let (Some(call), Some(handle)) = (now.call, now.handle) else { return };
        if !(self.applies)(handle) {
            return;
        }
        if call.callback == Callback::Close {
            // The handle is counted when it goes, with all that it was asked.
            if handle.answered(self.asked).is_some() {
                report.exercised();
            }
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

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use layers_trace::{Callback, Kind};

    const WRITING: [Callback; 5] =
        [Callback::CanWrite, Callback::CanZero, Callback::CanFastZero, Callback::CanTrim, Callback::CanFua];

    /// As with `-r`: nobody is asked about writing.
    fn readonly() -> Script {
        let mut script = served(&crate::run::Run { readonly: true, ..run(2) });
        script.events.iter_mut().for_each(|event| {
            let told = [
                Callback::Preconnect,
                Callback::ListExports,
                Callback::DefaultExport,
                Callback::Open,
                Callback::Prepare,
            ];
            if event.kind == Kind::Enter && event.callback().is_some_and(|callback| told.contains(&callback))
            {
                event.d = 1;
            }
        });
        for query in WRITING {
            script = unasked(script, query);
        }
        for data in [Callback::Pwrite, Callback::Trim, Callback::Zero] {
            for layer in 0..=2 {
                script = script.without(layer, data, 0);
            }
        }
        script
    }

    /// Nobody is asked this.
    fn unasked(mut script: Script, query: Callback) -> Script {
        for layer in 0..=2 {
            for _ in 0..2 {
                script = script.without(layer, query, 0);
            }
        }
        script
    }

    #[test]
    fn a_readonly_handle_is_not_asked_about_writing() {
        const RULE: &str = "nego.readonly-shortcut";
        exercised_and_holds(RULE, readonly());
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
        let size = readonly().index(Kind::Exit, 2, Callback::GetSize, 0);
        for query in WRITING {
            rejects(RULE, readonly().with(size + 1, |script| script.on(&[1, 2, 3], 2, query, 0)));
        }
    }

    /// L2 cannot write.
    fn unwritable() -> Script {
        let mut script = reference().changed(Kind::Exit, 2, Callback::CanWrite, 0, |exit| exit.a = 0);
        for query in WRITING.into_iter().skip(1) {
            for layer in 0..=2 {
                script = script.without(layer, query, 0);
            }
        }
        script
    }

    #[test]
    fn who_cannot_write_is_asked_no_more() {
        const RULE: &str = "nego.nowrite-shortcut";
        exercised_and_holds(RULE, unwritable());
        let write = unwritable().index(Kind::Exit, 2, Callback::CanWrite, 0);
        rejects(RULE, unwritable().with(write + 1, |script| script.on(&[1, 2, 3], 2, Callback::CanTrim, 0)));
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }

    #[test]
    fn who_cannot_zero_is_not_asked_for_speed() {
        const RULE: &str = "nego.nozero-shortcut";
        let slow =
            |layer: u8| reference().changed(Kind::Exit, layer, Callback::CanZero, 0, |exit| exit.a = 0);
        rejects(RULE, slow(1));
        exercised_and_holds(RULE, {
            let mut script = slow(2);
            for layer in 0..=2 {
                script = script.without(layer, Callback::CanFastZero, 0);
            }
            script
        });
        // A plugin is asked: what it cannot do is emulated.
        assert_eq!(judged(slow(0)).result(RULE).unwrap().broken, 0);
    }
}
