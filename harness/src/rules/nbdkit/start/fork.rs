//! get_ready and after_fork: from the plugin outwards, in one process or two; and exit(3) after them.

use layers_trace::Callback::{
    AfterFork, Cleanup, Config, ConfigComplete, GetReady, Load, Open, Preconnect, ThreadModel, Unload,
};
use layers_trace::Event;

use super::super::order::{before, none_left_out, once};
use crate::history::History;
use crate::rules::check::{
    Now, Party, Report, Rule, Said, Watch, at, at_end, by, enters, given, remembering, unless,
};
use crate::run::Start;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "get_ready.inner-to-outer",
        statement: "Each layer gets ready once, after all thread models, and only when the layer below has succeeded.",
        clause: "nbdkit-filter(3), .get_ready",
        antecedent: "a layer with get_ready that the start reaches",
        good: "thread_model L0.get_ready L1.get_ready",
        bad: "thread_model L1.get_ready",
        fix: "call get_ready of the plugin first, then of each filter outwards, and exit on the first failure",
        check: by!(at(enters(&[ThreadModel, GetReady, AfterFork]), ready)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "get_ready.before-fork",
        statement: "get_ready runs in the process that loaded the layer, before any fork.",
        clause: "nbdkit-plugin(3), .get_ready",
        antecedent: "a layer with load and get_ready",
        good: "thread_model L0.get_ready",
        bad: "thread_model fork L0.get_ready",
        fix: "fork after the last get_ready",
        check: by!(at(enters(&[GetReady]), ready_before_fork)),
        ..Rule::REQUIRED.since(1, 18, 0)
    },
    Rule {
        id: "after_fork.inner-to-outer",
        statement: "after_fork runs once in each layer, after every get_ready, and only when the layer below has succeeded.",
        clause: "nbdkit-filter(3), .after_fork",
        antecedent: "a layer with after_fork that the start reaches",
        good: "get_ready L0.after_fork L1.after_fork",
        bad: "thread_model get_ready L1.after_fork",
        fix: "call after_fork of the plugin first, then of each filter outwards, and exit on the first failure",
        check: by!(at(enters(&[ThreadModel, GetReady, AfterFork]), forked)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "after_fork.always",
        statement: "Every run that serves calls after_fork, also when the server does not fork.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a layer with after_fork, in a run that serves a client or ends cleanly",
        good: "start stop",
        bad: "L0 without=cleanup; load config_complete thread_model get_ready SIGTERM L0.unload ends",
        fix: "call after_fork on every way to serving: -f, -s, --run, socket activation",
        check: by!(remembering(CLIENT, first_client).and_end(always_after_fork)),
        ..Rule::REQUIRED.since(1, 21, 12)
    },
    Rule {
        id: "after_fork.pid",
        statement: "A daemon runs after_fork in another process than start-up; a server in the foreground in the same.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes; nbdkit(1), --foreground and --single",
        antecedent: "a layer with after_fork, in a daemon or with -f or -s",
        good: "run start=daemon; get_ready fork L0.after_fork",
        bad: "run start=daemon; get_ready L0.after_fork",
        fix: "call after_fork in the process that will serve",
        check: by!(at(enters(&[AfterFork]), forks_as_asked)),
        ..Rule::REQUIRED.since(1, 21, 12)
    },
    Rule {
        id: "after_fork.before-clients",
        statement: "No connection is taken on before after_fork of every layer has returned.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .after_fork",
        antecedent: "a connection, and a layer with after_fork",
        good: "start connect",
        bad: "get_ready L0.after_fork connect { L1.preconnect }",
        fix: "accept connections when all layers are through after_fork",
        check: by!(at(CLIENT, forked_before_clients)),
        ..Rule::REQUIRED.since(1, 21, 12)
    },
    Rule {
        id: "fork.parent-silent",
        statement: "The process that a fork leaves behind makes no further callback.",
        clause: "not in the manual",
        antecedent: "a server that goes on in another process",
        good: "run start=daemon; start",
        bad: "run start=daemon; thread_model get_ready fork after_fork p1: L0.unload",
        fix: "none needed; unload in the parent would surprise modules, though",
        check: by!(remembering(Watch::CALLS, parent_silent)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "ready.not-pidfile",
        statement: "A pidfile, or the command of --run having started, does not mean that after_fork has run.",
        clause: "not in the manual",
        antecedent: "a server with a pidfile or with --run",
        fix: "wait for the server to answer, not for its pidfile",
        ..Rule::UNSPECIFIED.since(1, 21, 12)
    },
    Rule {
        id: "exit.config-only",
        statement: "A plugin or filter calls exit(3) up to get_ready at the latest; once serving it asks with nbdkit_shutdown.",
        clause: "nbdkit-plugin(3), SHUTDOWN, Requesting asynchronous shutdown",
        antecedent: "a run with a client that ends with an exit status",
        good: "NBD_CMD_DISC stop",
        bad: "send NBD_CMD_READ enter L0.pread ends",
        fix: "call nbdkit_shutdown and return an error instead of exiting",
        check: by!(at_end(no_exit_while_serving)),
        ..Rule::FORBIDDEN.since(1, 19, 2).of(Party::Module)
    },
];

/// The first calls for a client.
const CLIENT: Watch = enters(&[Preconnect, Open]);

/// get_ready and after_fork visit each layer once, the innermost first, each after the one below has succeeded.
fn visit(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, layer) = (now.call?, now.event.layer);
    report.exercised();
    once(now, report);
    let below = now.history.inner(layer, call.callback)?;
    given(now.history.returned(below, call.callback).is_none_or(|exit| exit.result() != 0))?;
    let expected = format!("{} of L{below} has returned 0 before that of L{layer}", call.callback);
    report.broken(now.history.entered(below, call.callback), expected, "it has not")
}

fn ready(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match now.event.callback() {
        Some(GetReady) => visit(now, report),
        Some(ThreadModel) => before(GetReady, now, report),
        // The first after_fork: no layer was left out.
        _ if now.history.first_enters(AfterFork).next().is_none() => {
            none_left_out(GetReady, now.history, report)
        }
        _ => None,
    }
}

fn forked(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match now.event.callback() {
        Some(AfterFork) => visit(now, report),
        _ => before(AfterFork, now, report),
    }
}

/// get_ready and load share a process.
fn ready_before_fork(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let load = now.history.entered(now.event.layer, Load)?;
    let (expected, actual) = ("get_ready runs in the process of load", "in another process");
    report.expect(load.pid == now.event.pid, load, expected, actual)
}

/// Every run that serves calls after_fork of every layer: `client` is its first call for a client.
fn first_client(client: &mut Option<Event>, now: &Now<'_>, _: &mut Report<'_>) -> Said {
    given(client.is_none() && now.call.is_some_and(|call| now.history.is_for_client(call)))?;
    *client = Some(now.event.clone());
    Some(())
}

fn always_after_fork(client: &mut Option<Event>, history: &History, report: &mut Report<'_>) -> Said {
    let serves = history.run().is_some_and(|run| run.start.serves());
    given(serves && (client.is_some() || history.ended_cleanly()))?;
    for layer in history.recording(AfterFork) {
        let called = history.entered(layer, AfterFork).is_some();
        report.expect(called, client.as_ref(), format_args!("after_fork of L{layer}"), "it was never called");
    }
    Some(())
}

/// A daemon changes its process before after_fork; in the foreground it stays.
fn forks_as_asked(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let starts = [Load, Config, ConfigComplete, ThreadModel, GetReady];
    let before = starts.into_iter().flat_map(|callback| now.history.first_enters(callback));
    let (before, run) = before.max_by_key(|enter| enter.position).zip(now.history.run())?;
    let same = before.pid == now.event.pid;
    match run.start {
        Start::Daemon => report.expect(!same, before, "a daemon has forked", "it is the same process"),
        Start::Foreground | Start::Single | Start::ExitWithParent => {
            report.expect(same, before, "there is no fork", "it is another process")
        }
        _ => None,
    }
}

/// A client is served only when every after_fork has returned.
fn forked_before_clients(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    now.server_call().filter(|_| now.history.outermost(AfterFork).is_some())?;
    report.exercised();
    let mut layers = now.history.recording(AfterFork);
    let layer = layers.find(|layer| now.history.returned(*layer, AfterFork).is_none())?;
    let running = now.history.in_flight().find(|other| other.callback == AfterFork);
    let expected = format!("after_fork of L{layer} has returned before the first client");
    report.broken(running, expected, "it has not")
}

/// The first event of each process, in turn.
type Processes = Vec<Event>;

/// What a fork leaves behind calls nothing.
fn parent_silent(processes: &mut Processes, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if let Some((current, left)) = processes.split_last() {
        unless(current.pid == now.event.pid)?;
        if left.iter().any(|first| first.pid == now.event.pid) {
            return report.broken(current, "no call in the process before the fork", "it makes one");
        }
        report.exercised();
    }
    processes.push(now.event.clone());
    Some(())
}

/// No process exits from inside a call for a client.
fn no_exit_while_serving(history: &History, report: &mut Report<'_>) -> Said {
    let served = history.was_minted(1) || history.connections().next().is_some();
    given(served && history.ends_where_it_serves() && history.has_exited())?;
    report.exercised();
    let ends = [Cleanup, Unload];
    let would_show = ends.iter().any(|callback| history.outermost(*callback).is_some());
    unless(!would_show || history.cleaning().is_some() || history.unloading().is_some())?;
    let inside = history.in_flight().filter(|call| history.is_for_client(call));
    // The call that was entered last: the others may only be waiting for it.
    let call = inside.max_by_key(|call| call.id())?;
    let expected = "a server that serves ends by cleanup and unload";
    report.broken(call, expected, format!("the process exited inside {} of L{}", call.callback, call.layer()))
}
