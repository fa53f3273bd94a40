//! get_ready and after_fork: from the plugin outwards, in one process or two; and exit(3) after them.

use layers_trace::Callback::{AfterFork, GetReady, Open, Preconnect, ThreadModel};
use layers_trace::{Callback, Event};

use crate::history::{End, History};
use crate::rules::check::{Now, Party, Report, Rule, Watch, at, at_end, by, enters, remembering};
use crate::run::Start;

/// The rules of this topic.
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
fn visit(now: &Now<'_>, report: &mut Report<'_>) {
    let (Some(call), layer) = (now.call, now.event.layer) else { return };
    report.exercised();
    if let Some(first) = now.history.entered(layer, call.callback) {
        report.broken([first, now.event], format!("one {} of L{layer}", call.callback), "another one");
    }
    let Some(below) = now.history.inner(layer, call.callback) else { return };
    if now.history.returned(below, call.callback).is_none_or(|exit| exit.result() != 0) {
        report.broken(
            now.history.entered(below, call.callback).into_iter().chain([now.event]),
            format!("{} of L{below} has returned 0 before that of L{layer}", call.callback),
            "it has not",
        );
    }
}

/// This call belongs before all of `later`.
pub(super) fn comes_first(now: &Now<'_>, report: &mut Report<'_>, later: Callback) {
    let (Some(call), Some(first)) = (now.call, now.history.first_enters(later).next()) else { return };
    let expected = format!("every {} comes before any {later}", call.callback);
    report.broken([first, now.event], expected, "one comes later");
}

fn ready(now: &Now<'_>, report: &mut Report<'_>) {
    match now.event.callback() {
        Some(GetReady) => visit(now, report),
        Some(ThreadModel) => comes_first(now, report, GetReady),
        // The first after_fork: no layer was left out.
        _ if now.history.first_enters(AfterFork).next().is_none() => {
            for layer in now.history.left_out(GetReady) {
                let expected = format!("get_ready of L{layer} comes first");
                report.expect(false, [now.event], expected, "it was left out");
            }
        }
        _ => {}
    }
}

fn forked(now: &Now<'_>, report: &mut Report<'_>) {
    match now.event.callback() {
        Some(AfterFork) => visit(now, report),
        _ => comes_first(now, report, AfterFork),
    }
}

/// get_ready and load share a process.
fn ready_before_fork(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(load) = now.history.entered(now.event.layer, Callback::Load) else { return };
    let (expected, actual) = ("get_ready runs in the process of load", "in another process");
    report.expect(load.pid == now.event.pid, [load, now.event], expected, actual);
}

/// Every run that serves calls after_fork of every layer: `client` is its first call for a client.
fn first_client(client: &mut Option<Event>, now: &Now<'_>, _: &mut Report<'_>) {
    if client.is_none() && now.call.is_some_and(|call| now.history.is_for_client(call)) {
        *client = Some(now.event.clone());
    }
}

fn always_after_fork(client: &mut Option<Event>, history: &History, report: &mut Report<'_>) {
    let serves = history.run().is_some_and(|run| run.start.serves());
    if !serves || !(client.is_some() || history.ended_cleanly()) {
        return;
    }
    for layer in history.recording(AfterFork) {
        let called = history.entered(layer, AfterFork).is_some();
        let events = client.iter().chain(history.end_event());
        report.expect(called, events, format!("after_fork of L{layer}"), "it was never called");
    }
}

/// A daemon changes its process before after_fork; in the foreground it stays.
fn forks_as_asked(now: &Now<'_>, report: &mut Report<'_>) {
    use Callback::{Config, ConfigComplete, Load};
    let starts = [Load, Config, ConfigComplete, ThreadModel, GetReady];
    let before = starts.into_iter().flat_map(|callback| now.history.first_enters(callback));
    let Some((before, run)) = before.max_by_key(|enter| enter.position).zip(now.history.run()) else {
        return;
    };
    let same = before.pid == now.event.pid;
    match run.start {
        Start::Daemon => {
            report.expect(!same, [before, now.event], "a daemon has forked", "it is the same process");
        }
        Start::Foreground | Start::Single | Start::ExitWithParent => {
            report.expect(same, [before, now.event], "there is no fork", "it is another process");
        }
        _ => {}
    }
}

/// A client is served only when every after_fork has returned.
fn forked_before_clients(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(call) = now.call.filter(|call| call.parent.is_none()) else { return };
    if !now.history.is_for_client(call) || now.history.outermost(AfterFork).is_none() {
        return;
    }
    report.exercised();
    let mut layers = now.history.recording(AfterFork);
    if let Some(layer) = layers.find(|layer| now.history.returned(*layer, AfterFork).is_none()) {
        let running = now.history.in_flight().find(|other| other.callback == AfterFork);
        report.broken(
            running.map(|other| &other.enter).into_iter().chain([now.event]),
            format!("after_fork of L{layer} has returned before the first client"),
            "it has not",
        );
    }
}

/// The first event of each process, in turn.
type Processes = Vec<Event>;

/// What a fork leaves behind calls nothing.
fn parent_silent(processes: &mut Processes, now: &Now<'_>, report: &mut Report<'_>) {
    let Some((current, left)) = processes.split_last() else { return processes.push(now.event.clone()) };
    if current.pid == now.event.pid {
        return;
    }
    if left.iter().any(|first| first.pid == now.event.pid) {
        let expected = "no call in the process before the fork";
        report.broken([current, now.event], expected, "it makes one");
    } else {
        report.exercised();
        processes.push(now.event.clone());
    }
}

/// No process exits from inside a call for a client.
fn no_exit_while_serving(history: &History, report: &mut Report<'_>) {
    let served = history.was_minted(1) || history.connections().next().is_some();
    // Under --run the status is not that of the process that serves.
    let tells = history.run().is_none_or(|run| run.start != Start::Captive);
    if !served || !tells || !matches!(history.end(), Some(End::Exited(_))) {
        return;
    }
    report.exercised();
    let ends = [Callback::Cleanup, Callback::Unload];
    let would_show = ends.iter().any(|callback| history.outermost(*callback).is_some());
    if !would_show || history.cleaning().is_some() || history.unloading().is_some() {
        return;
    }
    let inside = history.in_flight().filter(|call| history.is_for_client(call));
    // The call that was entered last: the others may only be waiting for it.
    if let Some(call) = inside.max_by_key(|call| call.id()) {
        report.broken(
            [&call.enter].into_iter().chain(history.end_event()),
            "a server that serves ends by cleanup and unload",
            format!("the process exited inside {} of L{}", call.callback, call.layer()),
        );
    }
}
