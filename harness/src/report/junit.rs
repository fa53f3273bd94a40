//! JUnit's XML, as CI services read it: a suite a group, a test a case.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::cases::{Case, Outcome, Run, Trouble};

/// Writes it.
pub fn write(to: &mut dyn Write, run: &Run) -> io::Result<()> {
    let mut report = Report::new(format!("layers: {}", run.name));
    for group in run.groups() {
        let mut suite = TestSuite::new(group);
        suite.add_test_cases(run.cases.iter().filter(|case| case.group == group).map(test_case));
        report.add_test_suite(suite);
    }
    report.serialize(to).map_err(io::Error::other)
}

fn test_case(case: &Case) -> TestCase {
    let failed = |kind, trouble: &Trouble| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_type(trouble.word).set_message(trouble.message.as_str()).set_description(&*trouble.text);
        status
    };
    let skipped = |why: String| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(why);
        status
    };
    let status = match &case.outcome {
        Outcome::Passed | Outcome::Warned(_) => TestCaseStatus::success(),
        Outcome::Skipped(why) => skipped(why.clone()),
        Outcome::Known(trouble) => skipped(format!("known: {}", trouble.message)),
        // One cause is one failure, and the test that has it says of which others it is the cause.
        Outcome::Follows(trouble) => skipped(trouble.message.clone()),
        Outcome::Failed(trouble) => failed(NonSuccessKind::Failure, trouble),
        Outcome::Undecided(trouble) => failed(NonSuccessKind::Error, trouble),
    };
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(format!("layers.{}", case.group));
    if let Outcome::Known(trouble) | Outcome::Warned(trouble) = &case.outcome {
        test.set_system_out(format!("{}\n{}", trouble.message, trouble.text));
    }
    test
}
