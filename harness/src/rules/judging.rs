//! Judges a whole trace.

use std::collections::HashSet;

use layers_trace::Reader;

use super::check::{Judge, Judgement, Rule, Trouble};
use super::of;
use crate::history::End;
use crate::run::Run;
use crate::version::{Version, Which};

/// Judges a whole trace.
///
/// The version that gates the rules is that of the run's description; without one every rule applies.
pub fn judge(reader: &Reader<'_>, rules: impl IntoIterator<Item = &'static Rule>) -> Judgement {
    let first = reader.events().next().and_then(Result::ok);
    let run = first.as_ref().and_then(Run::of);
    let version = run.as_ref().map_or(Version(u16::MAX, 0, 0), |run| run.version);
    let of_server = run.as_ref().and_then(|run| Which::named(&run.server));
    let ids: Option<HashSet<&str>> = of_server.map(|server| of(server).map(|rule| rule.id).collect());
    let rules = rules.into_iter().filter(|rule| ids.as_ref().is_none_or(|ids| ids.contains(rule.id)));
    let mut judge = Judge::new(rules, version);
    let mut events = reader.events();
    let mut damaged = reader.header_damage();
    for event in &mut events {
        match event {
            Ok(event) => judge.feed(&event),
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    let mut judgement = judge.finish();
    if let Some(error) = damaged {
        judgement.troubles.insert(0, Trouble::Damaged(error));
    }
    let killed = matches!(judgement.history.end(), Some(End::Killed(_)));
    if events.unpublished() > 0 && !killed {
        judgement.troubles.push(Trouble::Unpublished(events.unpublished()));
    }
    if reader.lost() > 0 {
        judgement.troubles.insert(0, Trouble::Lost(reader.lost()));
    }
    judgement
}
