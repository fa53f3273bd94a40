//! nbdkit-plugin(3), "Flags": which flags a request can have.

use layers_trace::Callback::{self, Cache, CanFastZero, CanFua, Extents, Flush, Pread, Pwrite, Trim, Zero};

use super::{caller, flag_names};
use crate::history::{FAST_ZERO, FUA, FUA_NATIVE, MAY_TRIM, REQ_ONE};
use crate::rules::check::{
    Check, Now, Party, Report, Rule, Said, at, by, enters, enters_where, given, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.flags.none",
        statement: "pread, flush and cache get no flags.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .pread, .flush and .cache",
        antecedent: "a pread, flush or cache",
        good: "NBD_CMD_READ { L0.pread flags=0 }",
        bad: "NBD_CMD_READ { L0.pread flags=2 }",
        fix: "pass 0",
        check: by!(within(no_flags)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "data.flags.subset",
        statement: "pwrite and trim get no flag but FUA, zero none but MAY_TRIM, FUA and FAST_ZERO, extents none but REQ_ONE.",
        clause: "nbdkit-plugin(3), Flags and .pwrite … .extents",
        antecedent: "a pwrite, trim, zero or extents",
        good: "NBD_CMD_WRITE { L0.pwrite flags=0 }",
        bad: "NBD_CMD_WRITE { L0.pwrite flags=MAY_TRIM }",
        fix: "take off what the callback does not know",
        check: by!(within(own_flags)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "data.fua.gate",
        statement: "FUA comes only to a filter whose can_fua is not none, and only to a plugin whose can_fua is native.",
        clause: "nbdkit-plugin(3), Flags and .can_fua; nbdkit-filter(3), .pwrite",
        antecedent: "a pwrite, trim or zero with FUA",
        good: "NBD_CMD_WRITE flags=FUA { L0.pwrite flags=FUA }",
        bad: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=FUA }",
        fix: "emulate with a flush, or refuse the request",
        check: by!(at(enters(WRITING), fua_gate)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "data.zero.fast-gate",
        statement: "FAST_ZERO comes only to a layer whose can_fast_zero is true.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .zero",
        antecedent: "a zero with FAST_ZERO",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        bad: "L0 can_fast_zero=0; NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        fix: "refuse such requests, or do not pass the flag on",
        check: by!(at(enters(&[Zero]), fast_gate)),
        ..Rule::REQUIRED.since(1, 15, 0)
    },
];

/// No other flags come to a callback than these.
fn within(allowed: fn(Callback) -> Option<u32>) -> impl Check {
    let watch = enters_where(|callback| allowed(callback).is_some());
    at(watch, move |now: &Now<'_>, report: &mut Report<'_>| {
        let (allowed, flags) = (allowed(now.call?.callback)?, now.event.flags());
        report.exercised();
        given(flags & !allowed != 0)?;
        let but = if allowed == 0 { String::new() } else { format!(" but {}", flag_names(allowed)) };
        report.broken_by(caller(now), (), format_args!("no flags{but}"), flag_names(flags))
    })
}

fn no_flags(callback: Callback) -> Option<u32> {
    matches!(callback, Pread | Flush | Cache).then_some(0)
}

fn own_flags(callback: Callback) -> Option<u32> {
    match callback {
        Pwrite | Trim => Some(FUA),
        Zero => Some(MAY_TRIM | FUA | FAST_ZERO),
        Extents => Some(REQ_ONE),
        _ => None,
    }
}

const WRITING: &[Callback] = &[Pwrite, Trim, Zero];

/// FUA only where it is understood.
fn fua_gate(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.event.flags() & FUA != 0)?;
    let handle = now.own_handle()?;
    let answer = now.history.offered(handle, CanFua)?;
    report.exercised();
    unless(if handle.layer == 0 { answer == FUA_NATIVE } else { answer > 0 })?;
    // What a plugin does not know the server takes off, whoever asked for it.
    let party = if handle.layer == 0 && answer > 0 { Party::Server } else { caller(now) };
    let answered = handle.answered(CanFua).unwrap_or(&handle.open);
    let actual = format!("FUA, though can_fua of L{} is {answer}", handle.layer);
    report.broken_by(party, answered, "no FUA", actual)
}

/// FAST_ZERO only where it is understood.
fn fast_gate(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.event.flags() & FAST_ZERO != 0)?;
    let handle = now.own_handle()?;
    let answer = now.history.offered(handle, CanFastZero)?;
    report.exercised();
    given(answer == 0)?;
    let answered = handle.answered(CanFastZero).unwrap_or(&handle.open);
    let actual = format!("FAST_ZERO, though L{} has not offered it", handle.layer);
    report.broken_by(caller(now), answered, "no FAST_ZERO", actual)
}
