//! What clients of the harness have tried of each command, beside asking for it: nothing inside the server shows it.

use layers_trace::appctx::UNJUDGED;
use layers_trace::{Field, Kind, Probe, Trial};

use super::ALL;
use crate::rules::check::{Check, Finding, Now, Party, Report, Rule, at, by, given, notes, unless};

const GUIDE: &str = "management guide, 9.3";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "answer.whole",
        statement: "An answer that is read slowly, or through small buffers, is the same, byte for byte, as one that fits.",
        clause: GUIDE,
        antecedent: "a command or a request whose answer is the same when nothing disturbs it",
        good: "Tried trial=1",
        bad: "Tried trial=1 = 0",
        fix: "when there is no room, return 0, and write the same line at the next call",
        check: by!(tried(Trial::Whole)),
        ..REQUIRED
    },
    Rule {
        id: "answer.after-refused",
        statement: "After arguments that are missing, unknown, too many, too long or no numbers a command is answered as before.",
        clause: GUIDE,
        antecedent: "a command that is answered, and again after such arguments",
        good: "Tried trial=2",
        bad: "Tried trial=2 = 0",
        fix: "give back on the error path what was taken",
        check: by!(tried(Trial::AfterRefused)),
        ..REQUIRED
    },
    Rule {
        id: "command.leaves-nothing",
        statement: "Commands, complete and aborted, leave no memory, no object of a pool, no descriptor and no session behind.",
        clause: "doc/internals/api/appctx.txt; management guide, 9.3, \"show pools\"",
        antecedent: "a command that adds nothing, in rounds",
        good: "Tried trial=3",
        bad: "Tried trial=3 = 0",
        fix: "free in io_release, or at the end of parse, what was allocated",
        check: by!(tried(Trial::Counted)),
        ..REQUIRED
    },
    Rule {
        id: "level.restricted",
        statement: "A command that the manual restricts to level operator or admin is refused at lower levels.",
        clause: GUIDE,
        antecedent: "such a command at a lower level",
        good: "Tried trial=4",
        bad: "Tried trial=4 = 0",
        fix: "begin parse with a look at cli_has_level",
        check: by!(tried(Trial::Restricted)),
        ..REQUIRED
    },
    Rule {
        id: "level.changing",
        statement: "A command that changes something is refused at level user.",
        clause: "configuration manual, \"level\", says that no change is allowed there, and the management guide restricts some commands alone",
        antecedent: "a command that says that it changes something, at level user",
        good: "Tried trial=5",
        bad: "Tried trial=5 = 0",
        fix: "begin parse with a look at cli_has_level",
        check: by!(tried(Trial::Changing)),
        ..Rule::OBSERVED.of(Party::Handler).from(ALL)
    },
    Rule {
        id: "answer.while-changed",
        statement: "An answer has an end, and the server goes on, when what it shows is changed before its client has read it.",
        clause: GUIDE,
        antecedent: "a command that dumps, and changes before its end",
        good: "Tried trial=6",
        bad: "Tried trial=6 = 0",
        fix: "watch what the dump will go on from, or find it again by its name",
        check: by!(tried(Trial::Changed)),
        ..REQUIRED
    },
    Rule {
        id: "answer.while-waiting",
        statement: "A command that changes something is answered, and the server goes on, while requests wait for what it changes.",
        clause: GUIDE,
        antecedent: "a command that says that it changes something, while requests wait",
        good: "Tried trial=7",
        bad: "Tried trial=7 = 0",
        fix: "give the requests that wait to somebody else, or end them",
        check: by!(tried(Trial::Waiting)),
        ..REQUIRED
    },
];

/// A row of this family: what a command does is the duty of its functions.
const REQUIRED: Rule = Rule::REQUIRED.of(Party::Handler).from(ALL);

/// What was tried of a command went as it should.
fn tried(trial: Trial) -> impl Check {
    at(notes(&[Kind::Probe]), move |now: &Now<'_>, report: &mut Report<'_>| {
        given(now.event.probe() == Some(Probe::Tried) && now.event.b == trial as u64)?;
        unless(now.event.a == UNJUDGED)?;
        let said = |field| now.event.text(field).map(|text| String::from_utf8_lossy(&text.bytes));
        let (expected, actual) = (said(Field::Message), said(Field::Value));
        report.expect(now.event.a != 0, (), expected.unwrap_or_default(), actual.unwrap_or_default())
    })
}

/// Returns the rule that says what comes of this trial.
pub(crate) fn rule_of(trial: u64) -> Option<&'static str> {
    let trials = [
        Trial::Whole,
        Trial::AfterRefused,
        Trial::Counted,
        Trial::Restricted,
        Trial::Changing,
        Trial::Changed,
        Trial::Waiting,
    ];
    let row = trials.iter().position(|one| *one as u64 == trial)?;
    RULES.get(row).map(|rule| rule.id)
}

/// The rule is about what clients have tried.
pub(crate) fn is_tried(rule: &Rule) -> bool {
    RULES.iter().any(|one| one.id == rule.id)
}

/// Returns one finding for all commands of which the same was expected: each is told of by what came instead.
pub(crate) fn joined(rule: &Rule, findings: Vec<Finding>) -> Option<Finding> {
    let mut findings = findings.into_iter();
    let mut first = findings.next()?;
    for other in findings.filter(|other| is_tried(rule) && other.expected == first.expected) {
        if !first.actual.contains(&other.actual) {
            first.actual.push_str("; ");
            first.actual.push_str(&other.actual);
        }
    }
    Some(first)
}
