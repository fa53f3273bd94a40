//! Results: each callback has those that its page of the manual names.

use layers_trace::Callback;

use crate::history::present;
use crate::rules::check::{Check, Now, Party, Report, Rule, Watch, by, exits_where};

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "result.known",
        party: Party::Module,
        statement: "A callback whose results are named returns one of them: 0 or -1 from preconnect, pread, pwrite and zero; one of the constants, or -1, from thread_model, can_fua, can_cache and a filter's can_zero.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect, .pread, .pwrite, .zero, .can_fua, .can_cache, .thread_model; nbdkit-filter(3), .can_zero",
        antecedent: "such a callback that returns",
        good: "NBD_CMD_READ { L0.pread = -1 } = EIO",
        bad: "NBD_CMD_READ { L0.pread = 512 }",
        fix: "return 0 when all of it is done, -1 after nbdkit_error, or the constant that says what is meant; never a number of bytes",
        check: by!(Results { named: true }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "result.usual",
        party: Party::Module,
        statement: "Where the manual names -1 alone, for an error, success is 0, and no answer is below -1.",
        clause: "not in the manual",
        antecedent: "a callback that can fail and returns, and is not one of those of result.known",
        good: "L0.config_complete",
        bad: "load config L0.config_complete = 42",
        fix: "return 0 for success, 0 or 1 for an answer, and -1 after nbdkit_error",
        check: by!(Results { named: false }),
        ..Rule::OBSERVED
    },
];

/// What a callback may return.
#[derive(Clone, Copy)]
enum Set {
    /// 0 or -1.
    Success,
    /// So many constants from 0 on, or -1.
    Constants(i64),
    /// Anything that is not below -1.
    Answer,
}

impl Set {
    fn has(self, result: i64) -> bool {
        match self {
            Set::Success => (-1..=0).contains(&result),
            Set::Constants(count) => (-1..count).contains(&result),
            Set::Answer => result >= -1,
        }
    }

    fn words(self) -> String {
        match self {
            Set::Success => "0 or -1".to_owned(),
            Set::Constants(count) => format!("one of the constants, 0 to {}, or -1", count - 1),
            Set::Answer => "an answer, or -1".to_owned(),
        }
    }
}

/// The set of a callback, and whether its page names it; of those without an integer, and of a plugin's size, which
/// nego.size.range judges, nothing.
fn set(callback: Callback, of_filter: bool) -> Option<(Set, bool)> {
    use Callback::{
        AfterFork, BlockSize, Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn,
        CanTrim, CanWrite, CanZero, Config, ConfigComplete, Extents, Finalize, Flush, GetReady, GetSize,
        IsRotational, ListExports, Pread, Preconnect, Prepare, Pwrite, ThreadModel, Trim, Zero,
    };
    let named = |set| Some((set, true));
    let usual = |set| Some((set, false));
    match present(callback) {
        Preconnect | Pread | Pwrite | Zero => named(Set::Success),
        ThreadModel => named(Set::Constants(4)),
        CanFua | CanCache => named(Set::Constants(3)),
        CanZero if of_filter => named(Set::Constants(3)),
        GetSize if of_filter => named(Set::Answer),
        CanWrite | CanFlush | IsRotational | CanTrim | CanZero | CanFastZero | CanExtents | CanMultiConn => {
            usual(Set::Answer)
        }
        Config | ConfigComplete | GetReady | AfterFork | ListExports | Prepare | Finalize | BlockSize
        | Flush | Trim | Extents | Cache => usual(Set::Success),
        _ => None,
    }
}

struct Results {
    /// Those whose page names what they return.
    named: bool,
}

impl Check for Results {
    fn watches(&self) -> Watch {
        let mine = |callback| {
            [true, false]
                .into_iter()
                .any(|of_filter| set(callback, of_filter).is_some_and(|(_, named)| named == self.named))
        };
        exits_where(mine)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call.filter(|_| now.is_exit()) else { return };
        let Some((set, _)) = set(call.callback, call.layer() > 0).filter(|(_, named)| *named == self.named)
        else {
            return;
        };
        let result = now.event.result();
        let expected = format!("{} returns {}", call.callback, set.words());
        report.expect(set.has(result), [&call.enter, now.event], expected, result.to_string());
    }
}
