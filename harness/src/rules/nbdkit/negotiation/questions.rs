//! nbdkit-plugin(3), "Callback lifecycle", and nbdkit-filter(3), "CALLBACKS": how queries reach the layers.

use layers_trace::Callback::{
    self, CanCache, CanExtents, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanWrite, CanZero,
    Close, ExportDescription, GetSize, IsRotational, Pwrite, PwriteV1,
};
use layers_trace::Kind;

use super::super::pass_through::passed_through;
use super::asked_again::AskedAgain;
use super::asked_by_server;
use crate::rules::check::{
    Now, Report, Rule, Said, at, by, calls_where, enters_where, given, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.outer-to-inner",
        statement: "A query enters at the outermost layer and reaches the layers below only through the filters above.",
        clause: "nbdkit-filter(3), CALLBACKS and nbdkit_next",
        antecedent: "a query of a layer under a filter that has the same query",
        good: r#"NBD_OPT_GO "a" { open prepare L1.get_size { L0.get_size } }"#,
        bad: r#"run filters=1; NBD_OPT_GO "a" { open prepare L0.get_size }"#,
        fix: "call the outermost layer, and hand a filter's call of next to the layer right below it",
        check: by!(passed_through(
            calls_where(Callback::is_query),
            at(enters_where(Callback::is_query), through_filters)
        )),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "nego.once-per-handle",
        statement: "get_size, block_size, is_rotational and can_* are asked of a handle once at most, unless they failed.",
        clause: "nbdkit-plugin(3), Callback lifecycle; nbdkit-filter(3), .get_size and .can_write",
        antecedent: "such a query",
        good: r#"NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { open L0.get_size L0.get_size }"#,
        fix: "keep the first answer with the handle and give it to whoever asks later",
        check: by!(at(calls_where(is_cached), asked_once)),
        ..Rule::REQUIRED.since(1, 15, 1)
    },
    Rule {
        id: "nego.error-not-cached",
        statement: "A query that has failed is asked again when somebody wants to know again.",
        clause: "not in the manual",
        antecedent: "a filter that asks below again after a failure, and writes that down",
        good: r#"NBD_OPT_GO "a" { open prepare L1.get_size { L1.next.get_size { L0.get_size = -1 } = -1 L1.next.get_size { L0.get_size } = 1048576 } } = EINVAL"#,
        bad: r#"NBD_OPT_GO "a" { open prepare L1.get_size { L1.next.get_size { L0.get_size = -1 } = -1 L1.next.get_size = -1 } }"#,
        fix: "none needed; a filter that depends on it should remember the failure itself",
        check: by!(remembering(
            enters_where(Callback::is_query).enters(&[Close]).notes(&[Kind::Ask, Kind::Answer]),
            AskedAgain::see
        )),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
    Rule {
        id: "nego.before-data",
        statement: "What the server itself asks of a handle it asks before it serves the client's first request with it.",
        clause: "nbdkit-plugin(3), Callback lifecycle",
        antecedent: "the first request of a client that reaches a layer",
        good: r#"NBD_OPT_GO "a" NBD_CMD_READ"#,
        bad: "NBD_CMD_READ L0.can_extents",
        also: &["nego.once-per-handle"],
        fix: "ask everything during option negotiation",
        check: by!(at(enters_where(|callback| callback.is_query() || callback.is_data()), asked_before_data)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "nego.complete-set",
        statement: "Before it serves a writable handle the server asks get_size, is_rotational and all of can_*, in one order.",
        clause: "not in the manual, which leaves open what is asked and in which order",
        antecedent: "the first request of a client with a writable handle",
        good: r#"NBD_OPT_GO "a" NBD_CMD_READ"#,
        bad: r#"NBD_OPT_GO "a" { L0.open L0.get_size L0.can_zero L0.can_write }"#,
        fix: "none needed; a layer should not count on being asked",
        check: by!(at(
            enters_where(|callback| EVERYTHING.contains(&callback) || callback.is_data()),
            asked_everything
        )),
        ..Rule::OBSERVED.since(1, 15, 1)
    },
];

/// A filter stands between the server and the layers below it.
fn through_filters(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, handle) = (now.call?, now.handle?);
    given(handle.layer == call.layer() && now.history.is_servers(handle))?;
    let outer = now.history.handle_outside(handle, call.callback)?;
    let on_the_way = asked_first_for(call.callback)
        .iter()
        .any(|later| now.history.handle_outside(handle, *later).is_none_or(|asks| asks.layer > outer.layer));
    let Some(parent) = now.parent() else {
        given(asked_by_server(now.history, call) && !on_the_way)?;
        let expected = format!("{} of L{} is asked by a layer above", call.callback, call.layer());
        return report.expect(false, &outer.open, expected, "the server asks it");
    };
    unless(parent.layer() <= call.layer())?;
    report.exercised();
    given(parent.layer() > outer.layer && !on_the_way)?;
    let expected = format!("L{} is asked for {} first", outer.layer, call.callback);
    report.broken(parent, expected, format!("L{} asks past it", parent.layer()))
}

/// The questions before which a layer is asked this one, too: where the layer that has this one above it lacks one of those,
/// the server comes past it with both.
fn asked_first_for(query: Callback) -> &'static [Callback] {
    match query {
        CanWrite => &[CanZero, CanFastZero, CanTrim, CanFua],
        CanZero => &[CanFastZero],
        _ => &[],
    }
}

fn is_cached(query: Callback) -> bool {
    query.is_query() && query != ExportDescription
}

/// An answer holds for the life of the handle.
fn asked_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, handle) = (now.call?, now.handle?);
    let answer = handle.answered(call.callback);
    let expected = || format!("one answer of L{}.{} for handle {}", call.layer(), call.callback, handle.id);
    if now.is_enter() {
        return report.expect(answer.is_none(), answer, expected(), "it is asked again");
    }
    // Two threads that ask at the same time are not seen when they ask: the first of them may still be told of a failure.
    let answer = answer.filter(|answer| answer.position > call.id() && now.event.result() >= 0)?;
    report.broken((call, answer), expected(), "another thread asks before it is there")
}

/// Negotiation is over before the first request.
fn asked_before_data(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, handle) = (now.call?, now.handle?);
    if call.callback.is_data() {
        let first = call.parent.is_none() && handle.first_served.is_none();
        return report.exercised_if(first && now.history.is_servers(handle));
    }
    given(asked_by_server(now.history, call))?;
    // A layer above this one may be the first that has the data callback.
    let mut served = now.history.chain(handle.chain).into_iter().filter_map(|other| {
        let first = other.first_served.as_ref().filter(|_| other.layer >= handle.layer)?;
        let callback = first.callback()?;
        (now.history.outermost(callback) == Some(other.layer)).then_some(first)
    });
    let first = served.next()?;
    let expected = format!("{} of L{} is asked before the first request", call.callback, call.layer());
    report.broken(first, expected, "later")
}

/// What the server asks of a writable handle, in its order.
const EVERYTHING: &[Callback] = &[
    GetSize,
    CanWrite,
    CanZero,
    CanFastZero,
    CanTrim,
    CanFua,
    CanFlush,
    IsRotational,
    CanMultiConn,
    CanCache,
    CanExtents,
];

/// What the server asks only of a handle that can be written to.
const OF_WRITES: &[Callback] = &[CanZero, CanFastZero, CanTrim, CanFua];

/// The outermost layer is where the server's own order shows.
fn in_order(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, handle) = (now.call?, now.handle?);
    let top = now.history.layers().last().map(|layer| layer.number);
    given(Some(call.layer()) == top && asked_by_server(now.history, call))?;
    let later = EVERYTHING.iter().skip_while(|query| **query != call.callback).skip(1);
    let early = later.filter_map(|query| handle.answered(*query)).next()?;
    report.broken(early, format!("{} before {}", call.callback, early.callback()?), "after it")
}

fn complete(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.handle.filter(|handle| handle.first_served.is_none())?;
    now.root().filter(|_| now.history.is_servers(handle))?;
    let chain = now.history.chain(handle.chain);
    let known = |query, answer| chain.iter().any(|handle| handle.answer(query) == Some(answer));
    let served = chain.iter().any(|handle| handle.first_served.is_some());
    let readonly = chain.iter().any(|handle| handle.readonly()) || known(CanWrite, 0);
    // Nobody is asked of a plugin that has no way to write.
    let answers = |query| chain.iter().any(|handle| handle.answered(query).is_some());
    let writes = [Pwrite, PwriteV1].map(|way| now.history.records(0, way));
    let cannot = !answers(CanWrite) && writes == [false; 2];
    unless(served || readonly)?;
    report.exercised();
    for query in EVERYTHING {
        let no_zero = *query == CanFastZero && known(CanZero, 0);
        if no_zero || cannot && OF_WRITES.contains(query) {
            continue;
        }
        let Some(layer) = now.history.outermost(*query) else { continue };
        let asked = chain.iter().find(|handle| handle.layer == layer);
        if let Some(silent) = asked.filter(|handle| handle.answered(*query).is_none()) {
            let expected = format!("{query} of L{layer} is asked before the first request");
            report.broken(&silent.open, expected, "it is not");
        }
    }
    Some(())
}

/// Everything is asked, in the order that the servers have.
fn asked_everything(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    match now.event.callback() {
        Some(data) if data.is_data() => complete(now, report),
        _ => in_order(now, report),
    }
}
