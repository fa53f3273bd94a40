//! nbdkit-plugin(3), "Callback lifecycle" and "SHUTDOWN": load, cleanup, unload.

mod cleanup;
mod load;
mod shutdown;
mod threads;
mod unload;

use layers_trace::Callback::{AfterFork, Cleanup, Unload};
use layers_trace::Kind;

use crate::history::History;
use crate::rules::check::{Checker, Rule, at, by, calls, enters, enters_where, exits, notes, remembering};

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "lifecycle.load.once-first",
        statement: "Every plugin and filter on the command line is loaded once, and load is the first call it gets.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .load",
        antecedent: "a layer with load",
        good: "L0.load L1.load config",
        bad: "L0.load L0.load",
        fix: "call load as soon as the module has registered itself, before any other callback of it, and never again",
        check: by!(remembering(
            // A data call has a handle, so an `open` comes before it, which would already be too early.
            enters_where(|callback| !callback.is_data()),
            load::is_first
        )
        .and_end(load::never_missing)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "lifecycle.load.order",
        statement: "The order in which layers are loaded is open (the servers load the plugin, then filters outwards).",
        clause: "not in the manual",
        antecedent: "two layers with load",
        fix: "rely on no order between the loads of different layers",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "lifecycle.unload.once",
        statement: "Unload of a layer is never called twice, and is called before a server that ends cleanly is gone.",
        clause: "nbdkit-plugin(3), .unload and SHUTDOWN; nbdkit-filter(3), .unload",
        antecedent: "a layer with unload, and a server that ends by itself with success",
        good: "stop",
        bad: "SIGTERM cleanup L0.unload L1.unload L0.unload",
        fix: "unload each module once on every way to a regular exit",
        check: by!(unload::once_by_the_end(Unload, History::ended_cleanly)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "lifecycle.unload.not-on-failure",
        statement: "When a callback of start-up fails the process just exits: there is no cleanup and no unload.",
        clause: "not in the manual, which only says that unload may not be called (nbdkit-plugin(3), .unload)",
        antecedent: "a config, config_complete, thread_model, get_ready or after_fork that fails",
        good: "L0.get_ready = -1 ends = 1",
        bad: "L0.get_ready = -1 L0.unload",
        also: &["config.failure-exits"],
        fix: "none needed; modules must cope with both",
        check: by!(at(enters(&[Cleanup, Unload]), unload::nothing_after_failure)
            .and_end(unload::nothing_after_failure_at_end)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "lifecycle.unload.order",
        statement: "The order in which layers are unloaded is open (the servers unload the plugin first).",
        clause: "not in the manual",
        antecedent: "two layers with unload",
        fix: "rely on no order between the unloads of different layers; use cleanup where order matters",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "lifecycle.unload.last",
        statement: "Once the unload of a layer has been entered, no callback of that layer is.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .unload",
        antecedent: "a layer whose unload is called",
        good: "stop",
        bad: "cleanup L0.unload L0.cleanup",
        also: &["lifecycle.cleanup.before-unload", "lifecycle.cleanup.once"],
        fix: "end every thread that may still call the module before unloading it",
        check: by!(at(enters_where(|_| true), unload::is_last)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "lifecycle.unload.exclusive",
        statement: "While any layer is being unloaded, no callback of any layer is in progress.",
        clause: "nbdkit-plugin(3), SHUTDOWN: running callbacks finish before the unloads",
        antecedent: "a layer whose unload is called",
        good: "stop",
        bad: "run start=help; load enter L0.unload L1.unload",
        fix: "wait for all callbacks to return before the first unload",
        check: by!(remembering(enters_where(|_| true).exits(&[Unload]), unload::runs_alone)),
        ..Rule::FORBIDDEN.since(1, 1, 17)
    },
    Rule {
        id: "lifecycle.cleanup.outer-to-inner",
        statement: "Cleanup visits the outermost filter first and the plugin last; each finishes before the next starts.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "two layers with cleanup, and a server that ends by itself",
        good: "L1.cleanup L0.cleanup",
        bad: "enter L1.cleanup L0.cleanup",
        fix: "call cleanup from the outermost layer inwards, each after the previous one has returned",
        check: by!(remembering(calls(&[Cleanup]), cleanup::outer_first)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.before-unload",
        statement: "The cleanups of all layers are over before the first unload of any layer begins.",
        clause: "nbdkit-plugin(3), Callback lifecycle, .cleanup and .unload; nbdkit-filter(3), .cleanup",
        antecedent: "a layer with cleanup and one with unload, and a server that ends by itself",
        good: "SIGTERM L1.cleanup L0.cleanup L0.unload",
        bad: "SIGTERM L1.cleanup L0.unload L0.cleanup",
        also: &["lifecycle.unload.last"],
        fix: "call every cleanup before the first module is removed from memory",
        check: by!(at(enters(&[Cleanup, Unload]), cleanup::before_unload)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.iff-after-fork",
        statement: "Cleanup is only for runs in which after_fork was reached: not for --help, --dump-plugin or a failed start.",
        clause: "nbdkit-plugin(3), .cleanup",
        antecedent: "a layer with cleanup, in a run that cleans up or never comes to after_fork",
        good: "start stop",
        bad: "load config config_complete thread_model get_ready L0.cleanup",
        fix: "skip cleanup when after_fork has not been called",
        check: by!(remembering(exits(&[AfterFork]).enters(&[Cleanup]), cleanup::after_every_fork)
            .and_end(cleanup::none_without_fork)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.once",
        statement: "Cleanup of a layer is never called twice, and is called when a server that has served ends cleanly.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a layer with cleanup, and a server that serves and ends by itself with success",
        good: "SIGTERM L1.cleanup L0.cleanup unload ends",
        bad: "SIGTERM L0.cleanup L0.cleanup",
        fix: "clean each layer up once, after the last connection is closed",
        check: by!(unload::once_by_the_end(Cleanup, |history| history.ended_cleanly() && history.serves())),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.all-closed",
        statement: "When the first cleanup begins, every handle of every connection has been closed.",
        clause: "nbdkit-plugin(3), .cleanup and SHUTDOWN; nbdkit-filter(3), .cleanup",
        antecedent: "a run in which a handle was opened and that comes to cleanup",
        good: "NBD_CMD_DISC { close } cleanup",
        bad: "NBD_CMD_READ L0.cleanup",
        fix: "close the handles of all connections, also of those cut off by the shutdown, before calling cleanup",
        check: by!(at(enters(&[Cleanup]), shutdown::all_closed)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.cleanup.quiescent",
        statement: "Once the first cleanup has begun no connected callback does, but for a filter's use of its own contexts.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a run with a client that comes to cleanup",
        good: "NBD_CMD_DISC stop",
        bad: "start connect cleanup L0.list_exports",
        also: &["conn.list.only-on-request"],
        fix: "accept no client, and wait for the threads of all connections, before the first cleanup",
        check: by!(at(
            enters_where(|callback| callback == Cleanup || callback.is_connected()),
            shutdown::quiescent
        )),
        ..Rule::FORBIDDEN.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.shutdown.sequence",
        statement: "On a shutdown signal running callbacks finish, handles are closed, cleanup, then unload follow, and the server exits cleanly.",
        clause: "nbdkit-plugin(3), SHUTDOWN; nbdkit(1), SIGNALS",
        antecedent: "SIGINT, SIGQUIT or SIGTERM, or the end of the command of --run",
        good: "NBD_CMD_DISC SIGTERM cleanup unload ends",
        bad: "NBD_CMD_DISC SIGTERM L0.unload",
        fix: "call close for each connection that the shutdown ends, then cleanup, then unload",
        check: by!(remembering(
            notes(&[Kind::Signal]).enters(&[Cleanup, Unload]).exits(&[Unload]),
            shutdown::ShutdownSequence::see
        )
        .and_end(shutdown::ShutdownSequence::end)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "lifecycle.start-single-threaded",
        statement: "One thread of the server's makes all calls from load to after_fork.",
        clause: "not in the manual",
        antecedent: "two calls of start-up in one process",
        good: "L0.load L0.config_complete",
        bad: "t7: L0.load L0.config_complete",
        also: &["lifecycle.main-thread"],
        fix: "none needed; a module should not count on it",
        check: by!(remembering(enters(threads::START), threads::one_thread_starts)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "lifecycle.main-thread",
        statement: "Load to after_fork, cleanup and unload run on the main thread of their process.",
        clause: "not in the manual",
        antecedent: "any call of start-up, cleanup or unload",
        good: "stop",
        bad: "t7: L0.cleanup",
        fix: "none needed; a module should not count on it",
        check: by!(at(enters(threads::START).enters(&[Cleanup, Unload]), threads::on_main_thread)),
        ..Rule::OBSERVED
    },
];
