//! nbdkit-plugin(3) and nbdkit-filter(3), "can_write" … "can_cache": what a layer has declined it does not get.

use layers_trace::Callback::{
    self, Cache, CanCache, CanExtents, CanFlush, CanFua, CanTrim, CanWrite, CanZero, Extents, Flush, Pwrite,
    Trim, Zero,
};

use super::caller;
use crate::history::{CACHE_NATIVE, FUA_EMULATE, Handle, Request, ZERO_NATIVE, present};
use crate::rules::check::{Check, Now, Report, Rule, at, by, enters, given};
use crate::version::Version;

/// From here on the server itself heeds a filter's can_zero.
const FILTERS_EMULATE: Version = Version(1, 31, 9);

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.pwrite.gate",
        statement: "No pwrite, trim or zero reaches a layer that has answered no to can_write, or that is open read-only.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_write and .pwrite",
        antecedent: "a pwrite, trim or zero on a layer whose can_write is known",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "L0 can_write=0; NBD_CMD_WRITE { L0.pwrite }",
        fix: "refuse what writes; a filter must not make such requests",
        check: by!(gate(&[Pwrite, Trim, Zero], |now, handle| answers(now, handle, CanWrite, yes))),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.trim.gate",
        statement: "No trim reaches a layer that has answered no to can_trim.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .trim",
        antecedent: "a trim on a layer whose can_trim is known",
        good: "NBD_CMD_TRIM { L0.trim }",
        bad: "L0 can_trim=0; NBD_CMD_TRIM { L0.trim }",
        fix: "refuse the request; a filter must not make it",
        check: by!(gate(&[Trim], |now, handle| answers(now, handle, CanTrim, yes))),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.zero.gate",
        statement: "No zero reaches a plugin that has answered no to can_zero, or a filter that has not answered native.",
        clause: "nbdkit-plugin(3), .can_zero and .zero; nbdkit-filter(3), .can_write … .can_cache and .zero",
        antecedent: "a zero on a layer whose can_zero is known",
        good: "NBD_CMD_WRITE_ZEROES { L1.zero }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.zero }",
        fix: "write the zeroes with pwrite, or refuse the request",
        check: by!(gate(&[Zero], can_zero)),
        ..Rule::FORBIDDEN.since(1, 3, 0)
    },
    Rule {
        id: "data.flush.gate",
        statement: "No flush reaches a layer that has answered no to can_flush, except a plugin's that makes up for FUA after a write.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .flush; nbdkit-plugin(3), .can_fua",
        antecedent: "a flush on a layer whose can_flush is known",
        good: "NBD_CMD_FLUSH { L0.flush }",
        bad: "L0 can_flush=0; NBD_CMD_FLUSH { L0.flush }",
        fix: "refuse the request; a filter must not make it",
        check: by!(gate(&[Flush], can_flush)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.extents.gate",
        statement: "No extents reaches a layer that has answered no to can_extents, or any layer for a client that has no structured replies.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .extents; nbdkit(1), --no-sr",
        antecedent: "an extents on a layer whose can_extents is known",
        good: "NBD_CMD_BLOCK_STATUS { L0.extents }",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS { L0.extents }",
        fix: "answer that all is allocated; a filter must not make the request",
        check: by!(gate(&[Extents], can_extents)),
        ..Rule::FORBIDDEN.since(1, 11, 10)
    },
    Rule {
        id: "data.cache.gate",
        statement: "No cache reaches a layer that has not answered native to can_cache.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_cache and .cache",
        antecedent: "a cache on a layer whose can_cache is known",
        good: "NBD_CMD_CACHE { L1.cache }",
        bad: "L1 can_cache=1; NBD_CMD_CACHE { L1.cache }",
        fix: "read instead, or refuse the request",
        check: by!(gate(&[Cache], |now, handle| {
            answers(now, handle, CanCache, |answer| answer == CACHE_NATIVE)
        })),
        ..Rule::FORBIDDEN.since(1, 13, 4)
    },
];

/// What keeps a request from a layer: nothing, something, or unknown.
type Obstacle = Option<Result<(), String>>;

/// These callbacks come only to layers that want them.
fn gate(callbacks: &[Callback], obstacle: fn(&Now<'_>, &Handle) -> Obstacle) -> impl Check {
    at(enters(callbacks), move |now: &Now<'_>, report: &mut Report<'_>| {
        let handle = now.own_handle()?;
        let obstacle = obstacle(now, handle)?;
        report.exercised();
        let (why, callback) = (obstacle.err()?, now.call?.callback);
        report.broken_by(caller(now), &handle.open, format!("no {callback} on handle {}", handle.id), why)
    })
}

/// The answer to this query, or the default, is one that this is true of.
fn answers(now: &Now<'_>, handle: &Handle, query: Callback, wanted: fn(i64) -> bool) -> Obstacle {
    let answer = now.history.offered(handle, query)?;
    let why = || format!("one, though {query} of L{} comes to {answer}", handle.layer);
    Some(if wanted(answer) { Ok(()) } else { Err(why()) })
}

fn yes(answer: i64) -> bool {
    answer > 0
}

fn can_zero(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let heeds = now.history.run().is_none_or(|run| run.version >= FILTERS_EMULATE);
    given(handle.layer == 0 || heeds)?;
    answers(now, handle, CanZero, |answer| answer == ZERO_NATIVE)
}

fn can_flush(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let obstacle = answers(now, handle, CanFlush, yes)?;
    let makes_up = obstacle.is_err() && handle.layer == 0 && makes_up_for_fua(now, handle);
    Some(if makes_up { Ok(()) } else { obstacle })
}

/// The plugin has asked for a flush in place of FUA, and the server is about to return from a write, as far as one can tell.
fn makes_up_for_fua(now: &Now<'_>, plugin: &Handle) -> bool {
    let writing = |callback| matches!(present(callback), Pwrite | Trim | Zero);
    if now.history.offered(plugin, CanFua) != Some(FUA_EMULATE) {
        return false;
    }
    if let Some(parent) = now.parent() {
        return writing(parent.callback);
    }
    let last = |request: &Request| request.made.calls().last().map(|last| last.callback);
    now.served_request().is_none_or(|(_, request)| last(request).is_some_and(writing))
}

fn can_extents(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let refuses = now.history.run().is_some_and(|run| run.no_structured_replies);
    if refuses && now.parent().is_none() && now.history.is_servers(handle) {
        return Some(Err("one, though the server offers no structured replies".to_owned()));
    }
    answers(now, handle, CanExtents, yes)
}
