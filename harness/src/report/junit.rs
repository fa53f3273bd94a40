//! JUnit's XML, as CI services read it: a suite a group, a test a case.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble};

/// Writes it.
pub fn write(to: &mut dyn Write, run: &CaseRun) -> io::Result<()> {
    let mut report = Report::new(format!("layers: {}", run.name));
    for group in run.groups() {
        let mut suite = TestSuite::new(group);
        suite.add_test_cases(run.cases.iter().filter(|case| case.group == group).map(test_case));
        report.add_test_suite(suite);
    }
    report.serialize(to).map_err(io::Error::other)
}

fn test_case(case: &Case) -> TestCase {
    let failed = |kind, trouble: &CaseTrouble| {
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
        CaseOutcome::Passed | CaseOutcome::Warned(_) => TestCaseStatus::success(),
        CaseOutcome::Skipped(why) => skipped(why.clone()),
        CaseOutcome::Known(trouble) => skipped(format!("known: {}", trouble.message)),
        // One cause is one failure, and the test that has it says of which others it is the cause.
        CaseOutcome::Follows(trouble) => skipped(trouble.message.clone()),
        CaseOutcome::Failed(trouble) => failed(NonSuccessKind::Failure, trouble),
        CaseOutcome::Inconclusive(trouble) => failed(NonSuccessKind::Error, trouble),
    };
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(format!("layers.{}", case.group));
    if let CaseOutcome::Known(trouble) | CaseOutcome::Warned(trouble) = &case.outcome {
        test.set_system_out(format!("{}\n{}", trouble.message, trouble.text));
    }
    test
}
