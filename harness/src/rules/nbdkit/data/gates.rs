//! nbdkit-plugin(3) and nbdkit-filter(3), "can_write" … "can_cache": what a layer has declined it does not get.

use layers_trace::Callback;

use super::caller;
use crate::history::{CACHE_NATIVE, FUA_EMULATE, Handle, History, ZERO_NATIVE, present};
use crate::rules::check::{Check, Now, Report, Rule, Watch, by, enters};
use crate::version::Version;

/// From here on the server itself heeds a filter's can_zero.
const FILTERS_EMULATE: Version = Version(1, 31, 9);

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "data.pwrite.gate",
        statement: "No pwrite, trim or zero reaches a layer that has answered no to can_write, or that is open read-only.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_write and .pwrite",
        antecedent: "a pwrite, trim or zero on a layer whose can_write is known",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "L0 can_write=0; NBD_CMD_WRITE { L0.pwrite }",
        fix: "refuse what writes; a filter must not make such requests",
        check: by!(Gate(&[Callback::Pwrite, Callback::Trim, Callback::Zero], can_write)),
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
        check: by!(Gate(&[Callback::Trim], can_trim)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.zero.gate",
        since: Version(1, 3, 0),
        statement: "No zero reaches a plugin that has answered no to can_zero, or a filter that has not answered native.",
        clause: "nbdkit-plugin(3), .can_zero and .zero; nbdkit-filter(3), .can_write … .can_cache and .zero",
        antecedent: "a zero on a layer whose can_zero is known",
        good: "NBD_CMD_WRITE_ZEROES { L1.zero }",
        bad: "L1 can_zero=1; NBD_CMD_WRITE_ZEROES { L1.zero }",
        fix: "write the zeroes with pwrite, or refuse the request",
        check: by!(Gate(&[Callback::Zero], can_zero)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.flush.gate",
        statement: "No flush reaches a layer that has answered no to can_flush, except a plugin's that makes up for FUA after a write.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .flush; nbdkit-plugin(3), .can_fua",
        antecedent: "a flush on a layer whose can_flush is known",
        good: "NBD_CMD_FLUSH { L0.flush }",
        bad: "L0 can_flush=0; NBD_CMD_FLUSH { L0.flush }",
        fix: "refuse the request; a filter must not make it",
        check: by!(Gate(&[Callback::Flush], can_flush)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.extents.gate",
        since: Version(1, 11, 10),
        statement: "No extents reaches a layer that has answered no to can_extents, or any layer for a client that has no structured replies.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .extents; nbdkit(1), --no-sr",
        antecedent: "an extents on a layer whose can_extents is known",
        good: "NBD_CMD_BLOCK_STATUS { L0.extents }",
        bad: "L0 can_extents=0; NBD_CMD_BLOCK_STATUS { L0.extents }",
        fix: "answer that all is allocated; a filter must not make the request",
        check: by!(Gate(&[Callback::Extents], can_extents)),
        ..Rule::FORBIDDEN
    },
    Rule {
        id: "data.cache.gate",
        since: Version(1, 13, 4),
        statement: "No cache reaches a layer that has not answered native to can_cache.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .can_cache and .cache",
        antecedent: "a cache on a layer whose can_cache is known",
        good: "NBD_CMD_CACHE { L1.cache }",
        bad: "L1 can_cache=1; NBD_CMD_CACHE { L1.cache }",
        fix: "read instead, or refuse the request",
        check: by!(Gate(&[Callback::Cache], can_cache)),
        ..Rule::FORBIDDEN
    },
];

/// What keeps a request from a layer: nothing, something, or unknown.
type Obstacle = Option<Result<(), String>>;

/// These callbacks come only to layers that want them.
struct Gate(&'static [Callback], fn(&Now<'_>, &Handle) -> Obstacle);

impl Check for Gate {
    fn watches(&self) -> Watch {
        enters(self.0)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = now.handle.filter(|handle| handle.layer == now.event.layer) else { return };
        let Some(obstacle) = (self.1)(now, handle) else { return };
        report.exercised();
        if let Err(why) = obstacle {
            let callback = now.call.map_or("call", |call| call.callback.name());
            report.broken_by(
                caller(now),
                [&handle.open, now.event],
                format!("no {callback} on handle {}", handle.id),
                why,
            );
        }
    }
}

fn answered(history: &History, handle: &Handle, query: Callback, wanted: fn(i64) -> bool) -> Obstacle {
    let answer = history.offered(handle, query)?;
    Some(match wanted(answer) {
        true => Ok(()),
        false => Err(format!("one, though {query} of L{} comes to {answer}", handle.layer)),
    })
}

fn yes(answer: i64) -> bool {
    answer > 0
}

fn can_write(now: &Now<'_>, handle: &Handle) -> Obstacle {
    answered(now.history, handle, Callback::CanWrite, yes)
}

fn can_trim(now: &Now<'_>, handle: &Handle) -> Obstacle {
    answered(now.history, handle, Callback::CanTrim, yes)
}

fn can_zero(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let heeds = now.history.run().is_none_or(|run| run.version >= FILTERS_EMULATE);
    match handle.layer {
        0 => answered(now.history, handle, Callback::CanZero, |answer| answer == ZERO_NATIVE),
        _ if heeds => answered(now.history, handle, Callback::CanZero, |answer| answer == ZERO_NATIVE),
        _ => None,
    }
}

fn can_flush(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let obstacle = answered(now.history, handle, Callback::CanFlush, yes)?;
    let makes_up = obstacle.is_err() && handle.layer == 0 && makes_up_for_fua(now, handle);
    Some(if makes_up { Ok(()) } else { obstacle })
}

/// The plugin has asked for a flush in place of FUA, and the server is about to return from a write, as far as one can tell.
fn makes_up_for_fua(now: &Now<'_>, plugin: &Handle) -> bool {
    let writing = |callback| matches!(present(callback), Callback::Pwrite | Callback::Trim | Callback::Zero);
    if now.history.offered(plugin, Callback::CanFua) != Some(FUA_EMULATE) {
        return false;
    }
    if let Some(parent) = now.parent() {
        return writing(parent.callback);
    }
    let request = now.call.and_then(|call| now.history.client(call.client?)?.waits_for(call.request?));
    request.is_none_or(|request| request.made.calls().last().is_some_and(|last| writing(last.callback)))
}

fn can_extents(now: &Now<'_>, handle: &Handle) -> Obstacle {
    let refuses = now.history.run().is_some_and(|run| run.no_structured_replies);
    if refuses && now.parent().is_none() && now.history.is_servers(handle) {
        return Some(Err("one, though the server offers no structured replies".to_owned()));
    }
    answered(now.history, handle, Callback::CanExtents, yes)
}

fn can_cache(now: &Now<'_>, handle: &Handle) -> Obstacle {
    answered(now.history, handle, Callback::CanCache, |answer| answer == CACHE_NATIVE)
}
