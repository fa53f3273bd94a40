//! What a filter owes the layer below when it tells a client that data is durable.

use layers_trace::{Callback, Event};

use crate::history::{FUA, Recorded, calls};

/// The innermost layer: the plugin under the filter that is judged.
const PLUGIN: u8 = 0;

/// The last write of the plugin that nothing has made durable: neither FUA nor a flush that began later and succeeded.
pub(in crate::validate) fn left_volatile(events: impl Iterator<Item = Event>) -> Option<Event> {
    let of_plugin: Vec<Event> = events.filter(|event| event.layer == PLUGIN).collect();
    let returned = |call: Recorded<'_>| Some((call.enter.clone(), call.exit?.clone()));
    let mut succeeded: Vec<(Event, Event)> = calls(&of_plugin).into_iter().filter_map(returned).collect();
    succeeded.retain(|(_, exit)| exit.result() == 0);
    succeeded.sort_by_key(|(_, exit)| exit.position);
    let mut volatile: Option<(u32, Event)> = None;
    for (enter, exit) in succeeded {
        match enter.callback() {
            Some(Callback::Pwrite | Callback::Zero | Callback::Trim) if enter.flags() & FUA == 0 => {
                volatile = Some((exit.position, enter));
            }
            Some(Callback::Flush) if volatile.as_ref().is_some_and(|(end, _)| *end < enter.position) => {
                volatile = None;
            }
            _ => {}
        }
    }
    volatile.map(|(_, enter)| enter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, run};

    /// Calls of the plugin, one after another: callback, flags, result.
    fn scripted(all: &[(Callback, u32, i64)]) -> impl Iterator<Item = Event> {
        let mut script = Script::new(&run(0));
        for (callback, flags, result) in all {
            let enter = script.enter(PLUGIN, *callback);
            enter.d = *flags;
            let position = enter.position;
            script.exit(position, *result);
        }
        script.events.into_iter()
    }

    #[test]
    fn a_flush_behind_the_write_and_fua_make_it_durable() {
        assert!(left_volatile(scripted(&[(Callback::Pwrite, 0, 0), (Callback::Flush, 0, 0)])).is_none());
        assert!(left_volatile(scripted(&[(Callback::Pwrite, FUA, 0)])).is_none());
        assert!(left_volatile(scripted(&[(Callback::Pwrite, 0, -1)])).is_none());
        assert!(left_volatile(scripted(&[(Callback::Trim, FUA, 0), (Callback::Pread, 0, 0)])).is_none());
    }

    #[test]
    fn no_flush_one_before_it_and_one_that_fails_do_not() {
        assert!(left_volatile(scripted(&[(Callback::Zero, 0, 0)])).is_some());
        assert!(left_volatile(scripted(&[(Callback::Flush, 0, 0), (Callback::Trim, 0, 0)])).is_some());
        assert!(left_volatile(scripted(&[(Callback::Flush, 0, 0), (Callback::Pwrite, 0, 0)])).is_some());
        let failing = [(Callback::Pwrite, FUA, 0), (Callback::Pwrite, 0, 0), (Callback::Flush, 0, -1)];
        assert_eq!(left_volatile(scripted(&failing)).map(|event| event.flags()), Some(0));
    }
}
