//! What `watch` and `check` say, one case at a time.

use super::account::{Account, JudgedServer};
use crate::cases::{Case, CaseOutcome, CaseRun, CaseTrouble, Causes, stale_case};
use crate::outcome::{What, groups};

/// A case for each rule, server and stale entry of the baseline.
pub(super) fn cases(account: &Account<'_>) -> CaseRun {
    let causes = groups(account.faults);
    // A rule is told of in its own case, also where it is broken only with another one.
    let all = causes.iter().flat_map(|cause| [cause].into_iter().chain(&cause.with)).collect();
    let causes = Causes { plan: None, all };
    let rules = account.rules.iter().map(|rule| causes.rule_case(rule, &account.verdict(rule)));
    let servers = account.servers.iter().map(|one| of_server(account, one));
    let unseen = account.unseen.iter().map(|one| Case {
        group: "servers",
        name: one.pid.map_or("a process".to_owned(), |pid| format!("process {pid}")),
        outcome: CaseOutcome::Skipped(format!("not judged: {}", one.why)),
    });
    let stale = account.stale.iter().map(stale_case);
    let cases = rules.chain(servers).chain(unseen).chain(stale).collect();
    CaseRun::new(account.title.clone(), cases, account.exit, account.meaning.clone())
}

fn of_server(account: &Account<'_>, one: &JudgedServer<'_>) -> Case {
    let crash = account
        .faults
        .iter()
        .find(|fault| fault.scenario == one.name && matches!(fault.what, What::Verdict(_)));
    let outcome = match (crash, &one.unclear) {
        (Some(fault), _) => {
            let trouble = CaseTrouble::new("crash", fault.seen());
            match fault.standing.why() {
                Some(why) => CaseOutcome::Known(CaseTrouble { text: format!("known: {why}\n"), ..trouble }),
                None => CaseOutcome::Failed(trouble),
            }
        }
        (None, Some(why)) if one.is_cut() => {
            CaseOutcome::Inconclusive(CaseTrouble::new("inconclusive", why.clone()))
        }
        (None, Some(why)) => CaseOutcome::Skipped(format!("not judged: {why}")),
        (None, None) => CaseOutcome::Passed,
    };
    Case { group: "servers", name: one.name.clone(), outcome }
}
