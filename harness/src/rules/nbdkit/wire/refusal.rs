//! What goes well and must not.

use std::collections::{BTreeMap, BTreeSet};

use layers_trace::{Breach, Field, Kind};

use super::super::errno::refused::is_wrong_success;
use crate::history::ConnectionId;
use crate::rules::check::{Now, Report};

/// A client is not granted what it must be refused.
#[derive(Default)]
pub(super) struct Refusal {
    /// Each client's last reply is a success for which another rule says why it must not be one.
    explained: BTreeMap<u32, bool>,
    /// Connections on which a call has failed since the last reply.
    failed: BTreeSet<ConnectionId>,
}

impl Refusal {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let event = now.event;
        if now.is_exit() {
            let connection = now.call.filter(|_| event.result() < 0).and_then(|call| call.connection);
            return self.failed.extend(connection);
        }
        if event.kind == Kind::Reply {
            let connection = now.history.client(event.handle).and_then(|client| client.connection);
            let failed = connection.is_some_and(|connection| self.failed.remove(&connection));
            self.explained.insert(event.handle, event.result() == 0 && (failed || is_wrong_success(now)));
            if event.result() < 0 && !super::is_silent(event) {
                report.exercised();
            }
            return;
        }
        let explained = self.explained.get(&event.handle).copied().unwrap_or_default();
        if event.breach() == Some(Breach::Granted) && !explained {
            let said = event.text(Field::Message).map(|text| text.bytes.as_slice()).unwrap_or_default();
            report.exercised();
            report.broken([event], "it is refused", String::from_utf8_lossy(said));
        }
    }
}
