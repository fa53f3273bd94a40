//! What the client asked, and what the layers are called for.

use layers_trace::{Callback, Kind, Operation};

use super::flag_names;
use crate::history::{
    Client, FAST_ZERO, FUA, Handle, History, MAY_TRIM, Made, REQ_ONE, Request, Way, callback_of, present,
};
use crate::protocol::MOST_SERVED;
use crate::rules::check::{Check, Now, Report, Rule, Watch, at, by, enters, enters_where, notes};
use crate::run::Start;
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "data.one-per-request",
        statement: "Each request of a client that is accepted leads to one call at the outermost layer that has the callback, and each that is refused to none.",
        clause: "nbdkit-plugin(3), .pread … .cache",
        antecedent: "the answer to a client's request",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "NBD_CMD_WRITE { L0.pwrite L0.pwrite }",
        fix: "check a request, then make one call for it",
        check: by!(at(enters_where(Callback::is_data).notes(Kind::Reply), OnePerRequest::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.zero.may-trim",
        since: Version(1, 3, 0),
        statement: "A zero has MAY_TRIM when the client has not said NO_HOLE, and only then.",
        clause: "nbdkit-plugin(3), Flags and .zero",
        antecedent: "a zero that the server calls for a client's request",
        good: "NBD_CMD_WRITE_ZEROES flags=NO_HOLE { L0.zero flags=0 }",
        bad: "NBD_CMD_WRITE_ZEROES flags=NO_HOLE { L0.zero flags=MAY_TRIM }",
        fix: "pass on whether there may be a hole",
        check: by!(Passed { callback: Callback::Zero, flag: MAY_TRIM }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.zero.fast",
        since: Version(1, 15, 0),
        statement: "A zero has FAST_ZERO when the client has set that flag, and only then.",
        clause: "nbdkit-plugin(3), .zero; nbdkit-protocol(1), NBD_CMD_FLAG_FAST_ZERO",
        antecedent: "a zero that the server calls for a client's request",
        good: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=FAST_ZERO|MAY_TRIM }",
        bad: "NBD_CMD_WRITE_ZEROES flags=FAST_ZERO { L0.zero flags=MAY_TRIM }",
        fix: "pass on whether it must be fast",
        check: by!(Passed { callback: Callback::Zero, flag: FAST_ZERO }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.extents.req-one",
        since: Version(1, 11, 10),
        statement: "Extents are asked for with REQ_ONE when the client wants but one of them, and only then.",
        clause: "nbdkit-plugin(3), .extents; NBD protocol, NBD_CMD_FLAG_REQ_ONE",
        antecedent: "an extents that the server calls for a client's request",
        good: "NBD_CMD_BLOCK_STATUS flags=REQ_ONE { L0.extents flags=REQ_ONE } = 0 list=512:0",
        bad: "NBD_CMD_BLOCK_STATUS flags=REQ_ONE { L0.extents flags=0 }",
        fix: "pass on whether one is enough",
        check: by!(Passed { callback: Callback::Extents, flag: REQ_ONE }),
        ..Rule::REQUIRED
    },
    Rule {
        id: "data.reply-after-exit",
        statement: "A client hears of success when the call that serves its request has returned, and not before.",
        clause: "nbdkit-plugin(3), .pread … .cache",
        antecedent: "a successful answer to a request that a layer has served",
        good: "NBD_CMD_WRITE { L0.pwrite }",
        bad: "send NBD_CMD_WRITE enter L0.pwrite reply NBD_CMD_WRITE",
        fix: "answer when the outermost layer has returned",
        check: by!(at(notes(Kind::Reply), reply_after_exit)),
        ..Rule::REQUIRED
    },
];

/// A request whose answer this is, with the outermost handle of its connection; not one of several that are alike.
pub(super) fn answered<'a>(now: &Now<'a>) -> Option<(&'a Client, &'a Request, &'a Handle)> {
    let client = now.history.client(now.event.handle)?;
    let request = client.waits_for(now.event.call).filter(|request| request.operation.is_data())?;
    if client.is_ambiguous(request) {
        return None;
    }
    Some((client, request, now.history.top(client.connection?)?))
}

/// Why the server must refuse this request.
fn unacceptable(history: &History, request: &Request, top: &Handle) -> Option<&'static str> {
    use Operation::{Cache, Flush, Read, Trim, Write, Zero};
    let not = |query| history.offered(top, query) == Some(0);
    let (offset, count) = (request.event.offset(), u64::from(request.event.count()));
    let size = history.offered(top, Callback::GetSize).and_then(|size| u64::try_from(size).ok());
    let beyond = size.is_some_and(|size| offset.checked_add(count).is_none_or(|end| end > size));
    let (operation, flags) = (request.operation, request.flags());
    match operation {
        Write | Trim | Zero if not(Callback::CanWrite) => Some("the export is read-only"),
        Trim if not(Callback::CanTrim) => Some("can_trim is false"),
        Zero if not(Callback::CanZero) => Some("can_zero is none"),
        Flush if not(Callback::CanFlush) => Some("can_flush is false"),
        Cache if not(Callback::CanCache) => Some("can_cache is none"),
        _ if flags & FUA != 0 && not(Callback::CanFua) => Some("can_fua is none"),
        _ if flags & FAST_ZERO != 0 && not(Callback::CanFastZero) => Some("can_fast_zero is false"),
        _ if operation != Flush && count == 0 => Some("it is for no byte"),
        _ if operation != Flush && beyond => Some("it goes beyond the end"),
        Read | Write if count > MOST_SERVED.into() => Some("it is larger than what the server takes"),
        _ => None,
    }
}

/// As many calls as requests.
struct OnePerRequest;

impl OnePerRequest {
    fn entered(now: &Now<'_>, report: &mut Report<'_>) {
        let Some((call, number)) = now.call.and_then(|call| Some((call, call.client?))) else { return };
        let Some(client) = now.history.client(number).filter(|_| call.request.is_none()) else { return };
        // The harness itself asks for extents to find out whether a server is stopping.
        let stopping = !now.history.signals().is_empty()
            || now.history.run().is_some_and(|run| run.start == Start::Captive);
        if client.leaving.is_some() || client.lost || stopping && call.callback == Callback::Extents {
            return;
        }
        let asked = client.waiting.last().map(|request| &request.event);
        let expected = "a call only for what the client has asked, once for each request";
        report.broken(asked.into_iter().chain([now.event]), expected, "one that it has not asked for");
    }

    fn replied(now: &Now<'_>, report: &mut Report<'_>) {
        let Some((_, request, top)) = answered(now) else { return };
        let Some(callback) = callback_of(request.operation) else { return };
        let calls = request.made.calls();
        let events = || [&request.event].into_iter().chain(calls.iter().map(|made| &made.enter)).take(3);
        if let Some(why) = unacceptable(now.history, request, top) {
            let actual = format!("{} calls", calls.len());
            return report.expect(calls.is_empty(), events(), format!("no call, because {why}"), actual);
        }
        let Some(way) = now.history.way(top, callback) else { return };
        let own = |made: &&Made| present(made.callback) == callback;
        let (least, most, at) = match way {
            Way::Native(handle) => (1, 1, handle.layer),
            Way::Itself(_) | Way::Refused(_) => (0, 0, 0),
            // How many pieces there are is another rule's business.
            Way::Emulated { .. } => return report.exercised(),
        };
        let least = if now.event.result() == 0 { least } else { 0 };
        let count = calls.iter().filter(own).count();
        let holds =
            (least..=most).contains(&count) && calls.iter().filter(own).all(|made| made.layer() == at);
        report.expect(
            holds,
            events(),
            format!("{most} call of {callback}, of L{at}"),
            format!("{count} of them"),
        );
    }

    fn see(now: &Now<'_>, report: &mut Report<'_>) {
        if now.is_enter() { OnePerRequest::entered(now, report) } else { OnePerRequest::replied(now, report) }
    }
}

/// What the client has said in a flag is passed on.
struct Passed {
    callback: Callback,
    flag: u32,
}

impl Check for Passed {
    fn watches(&self) -> Watch {
        enters(&[self.callback])
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let client = now.call.and_then(|call| now.history.client(call.client?));
        let request = client.zip(now.call).and_then(|(client, call)| client.waits_for(call.request?));
        let Some((client, request)) = client.zip(request) else { return };
        if callback_of(request.operation) != Some(self.callback) || client.is_ambiguous(request) {
            return;
        }
        let name = flag_names(self.flag);
        let told = |is_set: bool| if is_set { name.clone() } else { format!("no {name}") };
        let (asked, passed) = (request.flags() & self.flag != 0, now.event.flags() & self.flag != 0);
        report.expect(asked == passed, [&request.event, now.event], told(asked), told(passed));
    }
}

/// Success is success of the layers.
fn reply_after_exit(now: &Now<'_>, report: &mut Report<'_>) {
    let Some((_, request, _)) = answered(now).filter(|_| now.event.result() == 0) else { return };
    let Some(last) = request.made.calls().last() else { return };
    report.expect(
        last.exit.is_some(),
        [&request.event, &last.enter, now.event],
        format!("the answer after {} has returned", last.callback),
        "it is still at work",
    );
}
