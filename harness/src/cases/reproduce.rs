//! The command that shows a finding of `conform` again.

use crate::campaign::level::Level;
use crate::conform::{ConformPlan, Source, TIMEOUT};
use crate::foreign::quoted::quoted;
use crate::outcome::{Fault, Standing};
use crate::server::haproxy::DEBIANS as DEBIANS_HAPROXY;

/// The command that shows this again.
pub fn reproduce(plan: &ConformPlan<'_>, fault: &Fault) -> String {
    let (name, path) = (plan.server.which().name(), plan.server.path());
    let mut words = vec!["layers".to_owned(), "conform".to_owned(), name.to_owned()];
    if path.as_os_str() != "nbdkit" && path != DEBIANS_HAPROXY {
        words.extend(["--server".to_owned(), quoted(path)]);
    }
    if plan.level != Level::default() {
        words.extend(["--level".to_owned(), plan.level.word().to_owned()]);
    }
    if plan.timeout != TIMEOUT {
        words.extend(["--timeout".to_owned(), plan.timeout.as_secs().to_string()]);
    }
    match plan.source {
        _ if matches!(fault.standing, Standing::Known { .. }) => words.push("--no-baseline".to_owned()),
        Source::Nothing => words.push("--no-baseline".to_owned()),
        Source::File(file) => words.extend(["--baseline".to_owned(), quoted(file)]),
        Source::Embedded => {}
    }
    words.extend(["--only".to_owned(), fault.scenario.clone()]);
    words.join(" ")
}
