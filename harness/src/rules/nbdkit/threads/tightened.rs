//! What a filter asks for holds for the plugin under it.

use layers_trace::{Callback, Event};

use super::connections::{keeps_waiting, other_connection, other_thread, pipelines};
use super::requests::{beside, beside_on_connection};
use super::{Scope, anything_beside, is_request, requests_on, shown};
use crate::history::{Call, History, ThreadModel};
use crate::rules::check::{Now, Report, Rule, at, by, enters_where};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "tm.filter-tightens",
    since: Version(1, 13, 4),
    statement: "Where a filter asks for a more serial thread model, the plugin is called under that one, too.",
    clause: "nbdkit-filter(3), .thread_model",
    antecedent: "a filter that asks for a more serial model than the plugin, and clients that ask for more at once than it allows",
    good: "L1 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ L1.pread { L0.pread }",
    bad: "L1 thread_model=2; send NBD_CMD_READ send NBD_CMD_READ enter L1.pread enter L0.pread t7: L1.pread { L0.pread }",
    also: &["tm.parallel.limit", "tm.req.per-handle"],
    fix: "apply the most serial model of all layers to every call of every layer",
    check: by!(at(enters_where(Callback::is_connected).exits_where(is_request), judge_tightened)),
    ..Rule::REQUIRED
}];

/// The model in force, where the plugin has not asked for it.
fn tightened(history: &History) -> Option<ThreadModel> {
    let (force, plugin) = (history.thread_model()?, history.plugin_model()?);
    (force < plugin).then_some(force)
}

/// What the model forbids beside or before this call of the plugin.
fn conflict<'a>(history: &'a History, call: &'a Call, model: ThreadModel) -> Option<&'a Event> {
    let scope = Scope::Plugin;
    match model {
        ThreadModel::SerializeConnections => {
            other_connection(history, call, scope).or_else(|| other_thread(history, call))
        }
        ThreadModel::SerializeAllRequests if is_request(call.callback) => {
            beside(history, call, scope).map(|other| &other.enter)
        }
        ThreadModel::SerializeRequests => {
            beside_on_connection(history, call, scope).map(|other| &other.enter)
        }
        ThreadModel::SerializeAllRequests | ThreadModel::Parallel => None,
    }
}

/// Clients had asked for more than the model allows at once, as long as this call was in progress.
fn is_put_to_the_test(history: &History, call: &Call, model: ThreadModel) -> bool {
    match model {
        ThreadModel::SerializeConnections => keeps_waiting(history, call) || pipelines(history, call),
        ThreadModel::SerializeAllRequests => anything_beside(history, call) > 1,
        ThreadModel::SerializeRequests => requests_on(history, call.connection, call) > 1,
        ThreadModel::Parallel => false,
    }
}

fn judge_tightened(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(model) = tightened(now.history) else { return };
    let Some(call) = Scope::Plugin.of(now) else { return };
    if now.is_exit() {
        if is_put_to_the_test(now.history, call, model) {
            report.exercised();
        }
    } else if let Some(other) = conflict(now.history, call, model) {
        let expected = format!("{} under the model that a filter asks for", shown(call));
        report.broken([other, now.event], expected, "the plugin is called as if only its own counted");
    }
}
