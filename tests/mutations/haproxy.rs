//! The same for HAProxy: every rule that its sessions exercise rejects a change to the trace of one.

use std::collections::{BTreeMap, BTreeSet};

use layers::rules::{Checker, Rule, of};
use layers::scenario::{Scenario, SessionPlayer, named};
use layers::server::Which;
use layers::server::haproxy::Haproxy;
use layers::version::Version;
use layers_trace::{Callback, Event, Kind, Probe};

use super::operators::{Try, altered, displaced};
use super::recorded::{Ids, Said, Trace, judged};

/// Sessions that together exercise every rule of HAProxy 2.6, in small traces.
const SESSIONS: &[&str] = &[
    "classical/dump",
    "classical/context",
    "classical/chain",
    "classical/abort",
    "own/own-memory-fails",
    "own/print",
    "own/legacy",
    "own/failing",
    "own/reserve-too-much",
    "shut-down/wait",
    "http/service/full",
    "http/failing-init",
    "own/tried",
];

/// Bits of an appctx's state that an event carries ([`layers_trace::appctx::State`]).
const FLAGS: u32 = 11;

/// Rules are tried as if every version had them.
const VERSION: Version = Version(u16::MAX, 0, 0);

/// Rules that the server breaks in every trace of these as it is: no change shows more. 2.6 calls an applet after its release,
/// which is a rule for later versions.
const BROKEN_AS_IT_IS: &[&str] = &["applet.no-call-after-release"];

/// One bit of what a call, or a probe, says.
fn flipped(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    let saved = trace[place].clone();
    for bit in 0..FLAGS {
        trace[place].d ^= 1 << bit;
        // What points elsewhere has another address.
        for context in [saved.context, saved.context ^ 0x1000] {
            trace[place].context = context;
            attempt("flipped", trace);
        }
        trace[place] = saved.clone();
    }
    if saved.kind == Kind::Probe {
        trace[place].a ^= 1;
        attempt("flipped", trace);
        trace[place] = saved;
    }
}

/// A release right after the call, whatever that is.
fn released(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    let enter = trace[place].clone();
    let exit = trace.iter().position(|event| event.kind == Kind::Exit && event.call == enter.position);
    let Some(exit) = exit.filter(|_| enter.kind == Kind::Enter) else { return };
    let fresh = trace.iter().map(|event| event.position).max().unwrap_or(0) + 1;
    let again = [enter, trace[exit].clone()].into_iter().zip(fresh..).map(|(event, position)| Event {
        position,
        call: fresh,
        number: Callback::IoRelease as u8,
        ..event
    });
    let mut mutant = trace.clone();
    mutant.splice(exit + 1..exit + 1, again);
    attempt("released", &mutant);
}

/// The server ends otherwise: in good order, or of a signal that nobody has sent.
fn ended_otherwise(trace: &mut Trace, place: usize, attempt: &mut Try<'_>) {
    if trace[place].kind != Kind::End {
        return;
    }
    let saved = trace[place].clone();
    for status in [0, 11] {
        trace[place].a = status;
        attempt("ended otherwise", trace);
    }
    // In the middle of the last call of all, too.
    let without_exit =
        |callback| trace.iter().rposition(|e| e.kind == Kind::Exit && e.callback() == Some(callback));
    if let Some(exit) = without_exit(Callback::IoRelease) {
        let mut cut: Trace = trace.iter().filter(|e| e.kind != Kind::Signal).cloned().collect();
        let exit = cut.iter().position(|e| e.position == trace[exit].position).unwrap();
        cut.remove(exit);
        attempt("cut", &cut);
    }
    trace[place] = saved;
}

/// A few of each sort, of the calls of commands and applets.
fn samples(trace: &[Event]) -> Vec<usize> {
    let mut seen: BTreeMap<(u8, u8, u64), usize> = BTreeMap::new();
    let mut few = |event: &Event| {
        let trial = if event.probe() == Some(Probe::Tried) { event.b } else { 0 };
        let count = seen.entry((event.kind as u8, event.number, trial)).or_default();
        *count += 1;
        *count <= 3
    };
    let subject = |event: &Event| !matches!(event.kind, Kind::Run | Kind::Layer);
    let places = trace.iter().enumerate().filter(|(_, event)| subject(event) && few(event));
    places.map(|(place, _)| place).collect()
}

#[test]
fn every_rule_of_haproxy_rejects_a_change_to_a_real_trace() {
    let server = Haproxy::find(None).unwrap();
    let rules: Vec<&'static Rule> =
        of(Which::Haproxy).filter(|rule| matches!(rule.check, Checker::Trace(_))).collect();
    let (mut exercised_in_all, mut killed) = (Ids::new(), Ids::new());
    for name in SESSIONS {
        let scenario: Scenario = named::find(name).unwrap();
        let player = SessionPlayer { keep_events: true, ..SessionPlayer::new(&server) };
        let mut trace: Trace = player.play(&scenario).unwrap().events;
        let Said { broken, exercised, .. } = judged(&trace, &rules, VERSION);
        exercised_in_all.extend(exercised.iter().filter(|id| !BROKEN_AS_IT_IS.contains(*id)));
        let mut here: Vec<&'static Rule> = rules
            .iter()
            .copied()
            .filter(|rule| {
                exercised.contains(rule.id) && !broken.contains(rule.id) && !killed.contains(rule.id)
            })
            .collect();
        for place in samples(&trace) {
            if here.is_empty() {
                break;
            }
            for operator in [flipped, released, ended_otherwise, altered, displaced] {
                operator(&mut trace, place, &mut |_: &str, mutant: &[Event]| {
                    if !here.is_empty() {
                        let broken = judged(mutant, &here, VERSION).broken;
                        here.retain(|rule| !broken.contains(rule.id));
                        killed.extend(broken);
                    }
                });
            }
        }
    }
    let survivors: Vec<_> = exercised_in_all.difference(&killed).collect();
    assert!(survivors.is_empty(), "nothing breaks {survivors:?}");
    let all: BTreeSet<&str> = rules.iter().map(|rule| rule.id).collect();
    let untried: Vec<_> =
        all.iter().filter(|id| !exercised_in_all.contains(**id) && !BROKEN_AS_IT_IS.contains(id)).collect();
    assert!(untried.is_empty(), "no session here exercises {untried:?}");
}
