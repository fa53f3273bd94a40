//! nbdkit-plugin(3), "Flags": which flags a request can have.

use layers_trace::Callback;

use super::{caller, flag_names};
use crate::history::{FAST_ZERO, FUA, FUA_NATIVE, MAY_TRIM, REQ_ONE};
use crate::rules::check::{Check, Now, Party, Report, Rule, Watch, at, by, enters, enters_where};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "data.flags.none",
        since: Version(1, 3, 0),
        statement: "pread, flush and cache get no flags.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .pread, .flush and .cache",
        antecedent: "a pread, flush or cache",
        good: "NBD_CMD_READ { L0.pread flags=0 }",
        bad: "NBD_CMD_READ { L0.pread flags=2 }",
        fix: "pass 0",
        check: by!(Within(no_flags)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.flags.subset",
        since: Version(1, 3, 0),
        statement: "pwrite and trim get no flag but FUA, zero none but MAY_TRIM, FUA and FAST_ZERO, extents none but REQ_ONE.",
        clause: "nbdkit-plugin(3), Flags and .pwrite … .extents",
        antecedent: "a pwrite, trim, zero or extents",
        good: "NBD_CMD_WRITE { L0.pwrite flags=0 }",
        bad: "NBD_CMD_WRITE { L0.pwrite flags=MAY_TRIM }",
        fix: "take off what the callback does not know",
        check: by!(Within(own_flags)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.fua.gate",
        since: Version(1, 3, 0),
        statement: "FUA comes only to a filter whose can_fua is not none, and only to a plugin whose can_fua is native.",
        clause: "nbdkit-plugin(3), Flags and .can_fua; nbdkit-filter(3), .pwrite",
        antecedent: "a pwrite, trim or zero with FUA",
        good: "NBD_CMD_WRITE flags=FUA { L0.pwrite flags=FUA }",
        bad: "L0 can_fua=1; NBD_CMD_WRITE flags=FUA { L0.pwrite flags=FUA }",
        fix: "emulate with a flush, or refuse the request",
        check: by!(at(enters(WRITING), fua_gate)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.zero.fast-gate",
        since: Version(1, 15, 0),
        statement: "FAST_ZERO comes only to a layer whose can_fast_zero is true.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .zero",
        antecedent: "a zero with FAST_ZERO",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        bad: "L0 can_fast_zero=0; NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        fix: "refuse such requests, or do not pass the flag on",
        check: by!(at(enters(&[Callback::Zero]), fast_gate)),
        ..Rule::REQUIRED
    },
];

/// The flags that a callback can get, where it is this check's business.
struct Within(fn(Callback) -> Option<u32>);

fn no_flags(callback: Callback) -> Option<u32> {
    matches!(callback, Callback::Pread | Callback::Flush | Callback::Cache).then_some(0)
}

fn own_flags(callback: Callback) -> Option<u32> {
    match callback {
        Callback::Pwrite | Callback::Trim => Some(FUA),
        Callback::Zero => Some(MAY_TRIM | FUA | FAST_ZERO),
        Callback::Extents => Some(REQ_ONE),
        _ => None,
    }
}

impl Check for Within {
    fn watches(&self) -> Watch {
        enters_where(|callback| (self.0)(callback).is_some())
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(allowed) = now.call.and_then(|call| (self.0)(call.callback)) else { return };
        report.exercised();
        let flags = now.event.flags();
        if flags & !allowed != 0 {
            let expected = match allowed {
                0 => "no flags".to_owned(),
                _ => format!("no flags but {}", flag_names(allowed)),
            };
            report.broken_by(caller(now), [now.event], expected, flag_names(flags));
        }
    }
}

const WRITING: &[Callback] = &[Callback::Pwrite, Callback::Trim, Callback::Zero];

/// FUA only where it is understood.
fn fua_gate(now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.flags() & FUA == 0 {
        return;
    }
    let Some(handle) = now.handle.filter(|handle| handle.layer == now.event.layer) else { return };
    let Some(answer) = now.history.offered(handle, Callback::CanFua) else { return };
    report.exercised();
    if if handle.layer == 0 { answer == FUA_NATIVE } else { answer > 0 } {
        return;
    }
    // What a plugin does not know the server takes off, whoever asked for it.
    let party = if handle.layer == 0 && answer > 0 { Party::Server } else { caller(now) };
    let answered = handle.answered(Callback::CanFua).unwrap_or(&handle.open);
    report.broken_by(
        party,
        [answered, now.event],
        "no FUA",
        format!("FUA, though can_fua of L{} is {answer}", handle.layer),
    );
}

/// FAST_ZERO only where it is understood.
fn fast_gate(now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.flags() & FAST_ZERO == 0 {
        return;
    }
    let Some(handle) = now.handle.filter(|handle| handle.layer == now.event.layer) else { return };
    let Some(answer) = now.history.offered(handle, Callback::CanFastZero) else { return };
    report.exercised();
    if answer == 0 {
        let answered = handle.answered(Callback::CanFastZero).unwrap_or(&handle.open);
        let actual = format!("FAST_ZERO, though L{} has not offered it", handle.layer);
        report.broken_by(caller(now), [answered, now.event], "no FAST_ZERO", actual);
    }
}
