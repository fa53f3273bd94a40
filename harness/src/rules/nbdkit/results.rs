//! Results: each callback has those that its page of the manual names.

use layers_trace::Callback::{
    self, AfterFork, BlockSize, Cache, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn,
    CanTrim, CanWrite, CanZero, Config, ConfigComplete, Extents, Finalize, Flush, GetReady, GetSize,
    IsRotational, ListExports, Pread, Preconnect, Prepare, Pwrite, ThreadModel, Trim, Zero,
};

use crate::history::present;
use crate::rules::check::{Check, Now, Party, Report, Rule, at, by, exits_where, unless};

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "result.known",
        statement: "A callback whose results are named returns one of them: 0 or -1 from preconnect, pread, pwrite and zero; one of the constants, or -1, from thread_model, can_fua, can_cache and a filter's can_zero.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .preconnect, .pread, .pwrite, .zero, .can_fua, .can_cache, .thread_model; nbdkit-filter(3), .can_zero",
        antecedent: "such a callback that returns",
        good: "NBD_CMD_READ { L0.pread = -1 } = EIO",
        bad: "NBD_CMD_READ { L0.pread = 512 }",
        fix: "return 0 when all of it is done, -1 after nbdkit_error, or the constant that says what is meant; never a number of bytes",
        check: by!(results(true)),
        ..Rule::REQUIRED.of(Party::Module)
    },
    Rule {
        id: "result.usual",
        statement: "Where the manual names -1 alone, for an error, success is 0, and no answer is below -1.",
        clause: "not in the manual",
        antecedent: "a callback that can fail and returns, and is not one of those of result.known",
        good: "L0.config_complete",
        bad: "load config L0.config_complete = 42",
        fix: "return 0 for success, 0 or 1 for an answer, and -1 after nbdkit_error",
        check: by!(results(false)),
        ..Rule::OBSERVED.of(Party::Module)
    },
];

/// What a callback may return: from -1 up to this, and how a finding puts that.
type Set = (i64, &'static str);

const SUCCESS: Set = (0, "0 or -1");
const ANSWER: Set = (i64::MAX, "an answer, or -1");
const THREE: Set = (2, "one of the constants, 0 to 2, or -1");
const FOUR: Set = (3, "one of the constants, 0 to 3, or -1");

/// The set of a callback, and whether its page names it; of those without an integer, and of a plugin's size, which
/// nego.size.range judges, nothing.
fn set(callback: Callback, of_filter: bool) -> Option<(Set, bool)> {
    let named = |set| Some((set, true));
    let usual = |set| Some((set, false));
    match present(callback) {
        Preconnect | Pread | Pwrite | Zero => named(SUCCESS),
        ThreadModel => named(FOUR),
        CanFua | CanCache => named(THREE),
        CanZero if of_filter => named(THREE),
        GetSize if of_filter => named(ANSWER),
        CanWrite | CanFlush | IsRotational | CanTrim | CanZero | CanFastZero | CanExtents | CanMultiConn => {
            usual(ANSWER)
        }
        Config | ConfigComplete | GetReady | AfterFork | ListExports | Prepare | Finalize | BlockSize
        | Flush | Trim | Extents | Cache => usual(SUCCESS),
        _ => None,
    }
}

/// Callbacks return what is theirs: those whose page names that, or the others.
fn results(named: bool) -> impl Check {
    let own = move |callback, of_filter| set(callback, of_filter).filter(|(_, other)| *other == named);
    let watch = exits_where(|callback| own(callback, true).is_some() || own(callback, false).is_some());
    at(watch, move |now: &Now<'_>, report: &mut Report<'_>| {
        let (call, result) = (now.call?, now.event.result());
        let ((most, words), _) = own(call.callback, call.layer() > 0)?;
        report.exercised();
        unless((-1..=most).contains(&result))?;
        report.broken(call, format_args!("{} returns {words}", call.callback), result)
    })
}
