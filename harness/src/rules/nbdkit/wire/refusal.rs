//! What goes well and must not.

use std::collections::{BTreeMap, BTreeSet};

use layers_trace::{Breach, Callback, Field, Kind};

use super::super::errno::refused::is_wrong_success;
use super::reply::is_silent;
use crate::history::ConnectionId;
use crate::rules::check::{Now, Report, Rule, Said, by, given, notes, remembering};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "wire.refusal",
    statement: "What the manual or the protocol wants to be refused is refused: a request that is not offered or out of range, an option before its time, an export whose layers fail.",
    clause: "nbdkit-plugin(3), nbdkit-filter(3), on each callback that fails; NBD protocol, Error values, Option types",
    antecedent: "an option or request that is refused",
    good: "NBD_CMD_WRITE { L0.pwrite = EIO } = EIO",
    bad: r#"NBD_CMD_WRITE { L0.pwrite = EIO complaint.Granted "success" }"#,
    fix: "refuse it",
    check: by!(remembering(notes(&[Kind::Reply, Kind::Breach]).exits_where(Callback::is_data), Refusal::see)),
    ..Rule::REQUIRED
}];

/// A client is not granted what it must be refused.
#[derive(Default)]
struct Refusal {
    /// Each client's last reply is a success for which another rule says why it must not be one.
    explained: BTreeMap<u32, bool>,
    /// Connections on which a call has failed since the last reply.
    failed: BTreeSet<ConnectionId>,
}

impl Refusal {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let event = now.event;
        if now.is_exit() {
            self.failed.extend(now.connection().filter(|_| event.result() < 0));
            return None;
        }
        if event.kind == Kind::Reply {
            let failed = now.connection().is_some_and(|connection| self.failed.remove(&connection));
            self.explained.insert(event.handle, event.result() == 0 && (failed || is_wrong_success(now)));
            return report.exercised_if(event.result() < 0 && !is_silent(event));
        }
        let explained = self.explained.get(&event.handle).copied().unwrap_or_default();
        given(event.breach() == Some(Breach::Granted) && !explained)?;
        let said = event.text(Field::Message).map(|text| text.bytes.as_slice()).unwrap_or_default();
        report.expect(false, (), "it is refused", String::from_utf8_lossy(said))
    }
}
