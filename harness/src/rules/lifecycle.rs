//! nbdkit-plugin(3), "CALLBACK LIFECYCLE" and "SHUTDOWN": load, cleanup, unload.

use layers_trace::{Callback, Event};

use super::{Check, Checker, Kind, Now, Party, Report, Rule, Watch};
use crate::version::Version;

/// The rules of this family.
pub const RULES: &[Rule] = &[Rule {
    id: "lifecycle.cleanup.outer-to-inner",
    kind: Kind::Required,
    party: Party::Server,
    since: Version(1, 25, 8),
    statement: "Cleanup visits the outermost filter first and the plugin last; each finishes before the next starts.",
    clause: "nbdkit-filter(3), .cleanup",
    antecedent: "two layers with cleanup, and a server that ends by itself",
    example: "L0.cleanup L1.cleanup",
    fix: "call cleanup from the outermost layer inwards, each after the previous one has returned",
    check: Checker::Trace(|| Box::new(CleanupOuterToInner::default())),
}];

#[derive(Default)]
struct CleanupOuterToInner {
    left: Option<Event>,
}

impl Check for CleanupOuterToInner {
    fn watches(&self) -> Watch {
        Watch::NONE.calls(&[Callback::Cleanup])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.is_exit() {
            self.left = Some(now.event.clone());
            return;
        }
        let Some(outer) = now.history.outer(now.event.layer, Callback::Cleanup) else { return };
        let in_order = self.left.as_ref().is_some_and(|left| left.layer == outer);
        report.expect(
            in_order,
            self.left.iter().chain([now.event]),
            format!("cleanup of L{outer} has returned before L{} is cleaned up", now.event.layer),
            "cleanup starts out of order",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use layers_trace::{Callback, Kind};

    #[test]
    fn cleanup_runs_outer_to_inner() {
        const RULE: &str = "lifecycle.cleanup.outer-to-inner";
        accepts(RULE, reference());
        let good = reference();
        let first = good.index(Kind::Enter, 2, Callback::Cleanup, 0);
        rejects(RULE, good.moved(0, Callback::Cleanup, 0, first));
    }
}
