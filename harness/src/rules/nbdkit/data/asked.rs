//! What the client asked, and what the layers are called for.

use layers_trace::Callback::{
    self, CanCache, CanFastZero, CanFlush, CanFua, CanTrim, CanWrite, CanZero, Extents, GetSize,
};
use layers_trace::{Kind, Operation};

use super::flag_names;
use crate::history::{
    Client, FAST_ZERO, FUA, FUA_NATIVE, Handle, History, MAY_TRIM, REQ_ONE, Request, Way, callback_of,
    present,
};
use crate::protocol::MOST_SERVED;
use crate::rules::check::{
    Check, Now, Report, Rule, Said, at, by, enters, enters_where, given, notes, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "data.one-per-request",
        statement: "Each request of a client that is accepted leads to one call at the outermost layer that has the callback, and each that is refused to none.",
        clause: "nbdkit-plugin(3), .pread … .cache",
        antecedent: "the answer to a client's request",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "NBD_CMD_WRITE { L0.pwrite L0.pwrite }",
        fix: "check a request, then make one call for it",
        check: by!(at(enters_where(Callback::is_data).notes(&[Kind::Reply]), one_per_request)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.zero.may-trim",
        statement: "A zero has MAY_TRIM when the client has not said NO_HOLE, and only then.",
        clause: "nbdkit-plugin(3), Flags and .zero",
        antecedent: "a zero that the server calls for a client's request",
        good: "NBD_CMD_WRITE_ZEROES flags=NO_HOLE { L0.zero flags=0 }",
        bad: "NBD_CMD_WRITE_ZEROES flags=NO_HOLE { L0.zero flags=MAY_TRIM }",
        fix: "pass on whether there may be a hole",
        check: by!(passed(Callback::Zero, MAY_TRIM)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "data.zero.fast",
        statement: "A zero has FAST_ZERO when the client has set that flag, and only then.",
        clause: "nbdkit-plugin(3), .zero; nbdkit-protocol(1), NBD_CMD_FLAG_FAST_ZERO",
        antecedent: "a zero that the server calls for a client's request",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        bad: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=MAY_TRIM }",
        fix: "pass on whether it must be fast",
        check: by!(passed(Callback::Zero, FAST_ZERO)),
        ..Rule::REQUIRED.since(1, 15, 0)
    },
    Rule {
        id: "data.fua.passed",
        statement: "Where the outermost layer's can_fua says native, a write, trim or zero has FUA when the client has set that flag, and only then.",
        clause: "nbdkit-plugin(3), Flags (NBDKIT_FUA_NATIVE) and .can_fua",
        antecedent: "a pwrite, trim or zero that the server calls for a client's request, where can_fua says native",
        good: "NBD_CMD_WRITE flags=FUA { L0.pwrite flags=FUA }",
        bad: "NBD_CMD_WRITE flags=FUA { L0.pwrite flags=0 }",
        fix: "pass on whether it must be durable when it is answered",
        check: by!(at(enters(&[Callback::Pwrite, Callback::Trim, Callback::Zero]), fua_passed)),
        ..Rule::REQUIRED.since(1, 3, 0)
    },
    Rule {
        id: "data.extents.req-one",
        statement: "Extents are asked for with REQ_ONE when the client wants but one of them, and only then.",
        clause: "nbdkit-plugin(3), .extents; NBD protocol, NBD_CMD_FLAG_REQ_ONE",
        antecedent: "an extents that the server calls for a client's request",
        good: "NBD_CMD_BLOCK_STATUS flags=REQ_ONE { L0.extents flags=REQ_ONE } = 0 list=512:0",
        bad: "NBD_CMD_BLOCK_STATUS flags=REQ_ONE { L0.extents flags=0 }",
        fix: "pass on whether one is enough",
        check: by!(passed(Extents, REQ_ONE)),
        ..Rule::REQUIRED.since(1, 11, 10)
    },
    Rule {
        id: "data.reply-after-exit",
        statement: "A client hears of success when the call that serves its request has returned, and not before.",
        clause: "nbdkit-plugin(3), .pread … .cache",
        antecedent: "a successful answer to a request that a layer has served",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "send NBD_CMD_WRITE enter L0.pwrite reply NBD_CMD_WRITE",
        fix: "answer when the outermost layer has returned",
        check: by!(at(notes(&[Kind::Reply]), reply_after_exit)),
        ..Rule::REQUIRED
    },
];

/// A request whose answer this is, with the outermost handle of its connection; not one of several that are alike.
pub(super) fn answered<'a>(now: &Now<'a>) -> Option<(&'a Client, &'a Request, &'a Handle)> {
    let client = now.client()?;
    let request = client.waits_for(now.event.call).filter(|request| request.operation.is_data())?;
    unless(client.is_ambiguous(request))?;
    Some((client, request, now.history.top(client.connection?)?))
}

/// Why the server must refuse this request.
fn unacceptable(history: &History, request: &Request, top: &Handle) -> Option<&'static str> {
    use Operation::{Cache, Flush, Read, Trim, Write, Zero};
    let not = |query| history.offered(top, query) == Some(0);
    let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
    let size = history.offered(top, GetSize).and_then(|size| u64::try_from(size).ok());
    let beyond = size.is_some_and(|size| offset.checked_add(count).is_none_or(|end| end > size));
    let (operation, flags) = (request.operation, request.flags());
    match operation {
        Write | Trim | Zero if not(CanWrite) => Some("the export is read-only"),
        Trim if not(CanTrim) => Some("can_trim is false"),
        Zero if not(CanZero) => Some("can_zero is none"),
        Flush if not(CanFlush) => Some("can_flush is false"),
        Cache if not(CanCache) => Some("can_cache is none"),
        _ if flags & FUA != 0 && not(CanFua) => Some("can_fua is none"),
        _ if flags & FAST_ZERO != 0 && not(CanFastZero) => Some("can_fast_zero is false"),
        _ if operation != Flush && count == 0 => Some("it is for no byte"),
        _ if operation != Flush && beyond => Some("it goes beyond the end"),
        Read | Write if count > MOST_SERVED.into() => Some("it is larger than what the server takes"),
        _ => None,
    }
}

/// As many calls as requests.
fn one_per_request(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_enter() { asked_for(now, report) } else { called_for(now, report) }
}

fn asked_for(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let call = now.call.filter(|call| call.request.is_none())?;
    let client = now.history.client(call.client?)?;
    // The harness itself asks for extents to find out whether a server is stopping.
    unless(client.leaving.is_some() || client.lost || now.history.may_stop() && call.callback == Extents)?;
    let expected = "a call only for what the client has asked, once for each request";
    report.broken(client.waiting.last(), expected, "one that it has not asked for")
}

fn called_for(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (_, request, top) = answered(now)?;
    let callback = callback_of(request.operation)?;
    let calls = request.made.calls();
    let cited = (request, (calls.first(), calls.get(1)));
    let mut report = report.without_present();
    if let Some(why) = unacceptable(now.history, request, top) {
        let expected = format!("no call, because {why}");
        return report.expect(calls.is_empty(), cited, expected, format_args!("{} calls", calls.len()));
    }
    let (least, most, at) = match now.history.way(top, callback)? {
        Way::Native(handle) => (usize::from(now.event.result() == 0), 1, handle.layer),
        Way::Itself(_) | Way::Refused(_) => (0, 0, 0),
        // How many pieces there are is another rule's business.
        Way::Emulated { .. } => return report.exercised(),
    };
    let own = || calls.iter().filter(|made| present(made.callback) == callback);
    let count = own().count();
    report.exercised();
    unless((least..=most).contains(&count) && own().all(|made| made.layer() == at))?;
    let expected = format!("{most} call of {callback}, of L{at}");
    report.broken(cited, expected, format!("{count} of them"))
}

/// What the client has said in this flag is passed on to this callback.
fn passed(callback: Callback, flag: u32) -> impl Check {
    at(enters(&[callback]), move |now: &Now<'_>, report: &mut Report<'_>| as_asked(flag, now, report))
}

/// FUA is passed on to a layer that has said that it sees to it itself.
fn fua_passed(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.history.offered(now.own_handle()?, CanFua) == Some(FUA_NATIVE))?;
    as_asked(FUA, now, report)
}

/// The call has this flag if the request has it that it serves.
fn as_asked(flag: u32, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (client, request) = now.served_request()?;
    given(callback_of(request.operation) == Some(now.call?.callback) && !client.is_ambiguous(request))?;
    let (asked, passed) = (request.flags() & flag != 0, now.event.flags() & flag != 0);
    report.same(request, asked, passed, |is_set| {
        format!("{}{}", if is_set { "" } else { "no " }, flag_names(flag))
    })
}

/// Success is success of the layers.
fn reply_after_exit(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (_, request, _) = answered(now).filter(|_| now.event.result() == 0)?;
    let last = request.made.calls().last()?;
    report.exercised();
    given(last.exit.is_none())?;
    let expected = format!("the answer after {} has returned", last.callback);
    report.broken((request, last), expected, "it is still at work")
}
