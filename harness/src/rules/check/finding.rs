//! One broken rule, with the calls that conflict.

use std::fmt;

use layers_trace::{Callback, Event, Field, Kind};

use super::party::Party;

/// An event as a finding quotes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRef {
    /// Position in the trace.
    pub position: u32,
    /// What kind of event.
    pub kind: Kind,
    /// Layer; 0 is the plugin.
    pub layer: u8,
    /// The callback, where the event is an enter or an exit.
    pub callback: Option<Callback>,
    /// Thread.
    pub tid: u32,
    /// Minted id of the handle, 0 for none.
    pub handle: u32,
    /// Arguments or result, as the tree shows them.
    pub detail: String,
}

impl From<&Event> for CallRef {
    fn from(event: &Event) -> CallRef {
        let callback = event.callback();
        let mut detail = String::new();
        for text in &event.texts {
            if matches!(
                text.field,
                Field::Key | Field::Value | Field::Export | Field::Description | Field::Message
            ) {
                detail.push_str(&format!(" {:?}", String::from_utf8_lossy(&text.bytes)));
            }
        }
        match (event.kind, callback) {
            (Kind::Enter, Some(data)) if data.is_data() => {
                detail.push_str(&format!(
                    " offset={} count={} flags={:#x}",
                    event.offset(),
                    event.count(),
                    event.flags()
                ));
            }
            (Kind::Exit, Some(_)) => detail.push_str(&format!(" = {}", event.result())),
            _ => {}
        }
        CallRef {
            position: event.position,
            kind: event.kind,
            layer: event.layer,
            callback,
            tid: event.tid,
            handle: if callback.is_some() { event.handle } else { 0 },
            detail,
        }
    }
}

impl fmt::Display for CallRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.kind {
            Kind::Enter => "enter",
            Kind::Exit => "exit",
            _ => "note",
        };
        match self.callback {
            Some(callback) => write!(f, "{phase} L{}.{callback}{}", self.layer, self.detail),
            None => write!(f, "{:?}{}", self.kind, self.detail),
        }
    }
}

/// Text as findings quote it.
pub(in crate::rules) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Id of the rule.
    pub rule: &'static str,
    /// Who has failed in it: the rule's party, unless a filter does what is else the server's to do.
    pub party: Party,
    /// The two or three events that conflict, in order.
    pub calls: Vec<CallRef>,
    /// What the rule asks here.
    pub expected: String,
    /// What the trace shows instead.
    pub actual: String,
}
