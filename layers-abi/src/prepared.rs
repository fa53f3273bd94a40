//! What a reference layer does, prepared so that a data callback takes no lock and allocates nothing.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use layers_behaviour::{Act, Behaviour, Deed, Extents, Failure, Nullable, Skip, Telling};
use layers_trace::Callback;

/// A behaviour, ready to be asked.
#[derive(Debug)]
pub struct Shape {
    plans: Vec<Plan>,
    /// Minimum, preferred, maximum.
    pub block_size: Option<[u32; 3]>,
    /// What a plugin answers depends on the name of the export.
    pub by_export: bool,
    /// What `list_exports` adds: names and descriptions.
    pub exports: Option<Vec<(CString, CString)>>,
    /// `Some(None)` is NULL.
    default_export: Option<Option<CString>>,
    /// `Some(None)` is NULL.
    description: Option<Option<CString>>,
    /// Answers that change from open to open, with the number of opens after which each changes.
    cycle: Vec<(Callback, Vec<i64>, usize)>,
    /// Answers of every other open.
    every_other: Vec<(Callback, i64)>,
    opens: AtomicUsize,
    /// Bytes that no request can touch: from the first to behind the last.
    bad: Option<[u64; 2]>,
    /// What a plugin's extents lists.
    pub extents: Extents,
    /// A filter opens the layer below read-only.
    pub opens_readonly: bool,
    swallow: Vec<CString>,
    skip: Vec<Skip>,
    /// Asks below in each request what it answers itself.
    pub ask_late: bool,
    /// Records what it calls below.
    pub log_below: bool,
}

/// What one callback does.
#[derive(Debug, Default)]
struct Plan {
    answer: Option<i64>,
    sleep: u32,
    failures: Vec<Failure>,
    fails_from: Option<u32>,
    acts: Vec<Act>,
    calls: AtomicU32,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Which of this callback's calls, from 1.
    pub nth: u32,
    /// How it is to end.
    pub fate: Fate,
    /// How a plugin tells the server why.
    pub told: Telling,
}

/// How one call is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it comes.
    Natural,
    /// It fails with this errno.
    Fails(c_int),
    /// It fails with this errno after the layer below has been asked and has succeeded.
    FailsAfterNext(c_int),
}

impl Shape {
    /// Prepares a behaviour.
    pub fn new(behaviour: &Behaviour) -> Shape {
        let plan = |callback: &Callback| Plan {
            answer: behaviour.answers.get(callback).copied(),
            sleep: behaviour.sleep.get(callback).copied().unwrap_or(0),
            failures: behaviour
                .fail
                .iter()
                .filter(|failure| failure.callback == *callback && has_result(*callback))
                .cloned()
                .collect(),
            fails_from: behaviour.fails_from.get(callback).copied().filter(|_| has_result(*callback)),
            acts: behaviour.acts.iter().filter(|act| act.callback == *callback).cloned().collect(),
            calls: AtomicU32::new(0),
        };
        let exports = behaviour.exports.as_ref();
        Shape {
            plans: Callback::NBDKIT.iter().map(plan).collect(),
            block_size: behaviour.block_size,
            by_export: behaviour.by_export,
            exports: exports.map(|list| {
                list.iter().map(|(name, description)| (c_string(name), c_string(description))).collect()
            }),
            default_export: behaviour.default_export.as_ref().map(nullable),
            description: behaviour.export_description.as_ref().map(nullable),
            cycle: cycle(&behaviour.cycle),
            every_other: behaviour
                .every_other
                .iter()
                .map(|(callback, answer)| (*callback, *answer))
                .collect(),
            opens: AtomicUsize::new(0),
            bad: behaviour.bad,
            extents: behaviour.extents,
            opens_readonly: behaviour.opens_readonly,
            swallow: behaviour.swallow.iter().map(|key| c_string(key)).collect(),
            skip: behaviour.skip.iter().copied().collect(),
            ask_late: behaviour.ask_late,
            log_below: behaviour.log_below,
        }
    }

    /// A call begins: counts it, sleeps as long as it is to sleep, and says how it is to end.
    pub fn begin(&self, callback: Callback) -> Begun {
        let Some(plan) = self.plan(callback) else {
            return Begun { nth: 0, fate: Fate::Natural, told: Telling::Both };
        };
        let call = plan.calls.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if plan.sleep != 0 {
            sleep(plan.sleep);
        }
        let failure = plan.failures.iter().find(|failure| failure.nth.is_none_or(|nth| nth == call));
        let fate = match failure {
            None if plan.fails_from.is_some_and(|first| call >= first) => Fate::Fails(libc::EIO),
            None => Fate::Natural,
            Some(failure) if failure.after_next => Fate::FailsAfterNext(failure.errno),
            Some(failure) => Fate::Fails(failure.errno),
        };
        Begun { nth: call, fate, told: failure.map_or(Telling::Both, |failure| failure.told) }
    }

    /// A request of these bytes touches some that no request can touch.
    pub fn is_bad(&self, offset: u64, count: u32) -> bool {
        self.bad.is_some_and(|[from, to]| offset < to && from < offset.saturating_add(count.into()))
    }

    /// What is to be done in the n-th call, beside the work.
    pub fn deeds(&self, callback: Callback, nth: u32) -> impl Iterator<Item = Deed> + '_ {
        let acts = self.plan(callback).map(|plan| plan.acts.as_slice()).unwrap_or_default();
        acts.iter().filter(move |act| act.nth.is_none_or(|one| one == nth)).map(|act| act.deed)
    }

    /// A parameter with this key is not for the layers below.
    pub fn swallows(&self, key: &CStr) -> bool {
        self.swallow.iter().any(|own| own.as_c_str() == key)
    }

    /// There the layer below is not called.
    pub fn skips(&self, place: Skip) -> bool {
        self.skip.contains(&place)
    }

    /// An `open`: what it is to return, by which [`Shape::answer_on`] knows it. It points to nothing and is never NULL.
    pub fn handle(&self) -> *mut c_void {
        let turn = self.opens.fetch_add(1, Ordering::Relaxed) % TURNS;
        std::ptr::without_provenance_mut(turn + 1)
    }

    /// The answer of a question on this handle, if it does not depend on others.
    pub fn answer_on(&self, handle: *mut c_void, callback: Callback) -> Option<i64> {
        if let Some((_, values, stride)) = self.cycle.iter().find(|(query, ..)| *query == callback) {
            let turn = handle.addr().wrapping_sub(1) / stride;
            return values.get(turn % values.len()).copied();
        }
        let other =
            self.every_other.iter().find(|(query, _)| *query == callback && handle.addr().is_multiple_of(2));
        other.map(|(_, answer)| *answer).or_else(|| self.answer(callback))
    }

    /// The fixed answer of a question.
    pub fn answer(&self, callback: Callback) -> Option<i64> {
        self.plan(callback)?.answer
    }

    /// The fixed answer of `default_export`, perhaps NULL.
    pub fn default_export(&self) -> Option<*const c_char> {
        self.default_export.as_ref().map(pointer)
    }

    /// The fixed answer of `export_description`, perhaps NULL.
    pub fn description(&self) -> Option<*const c_char> {
        self.description.as_ref().map(pointer)
    }

    fn plan(&self, callback: Callback) -> Option<&Plan> {
        self.plans.get(usize::from(callback as u8))
    }
}

/// Handles that can be told apart, which is more than any cycle has combinations.
const TURNS: usize = 1 << 20;

/// The last question's value changes with every open, the one before it when those behind it have been through all.
fn cycle(cycle: &[(Callback, Vec<i64>)]) -> Vec<(Callback, Vec<i64>, usize)> {
    let mut stride = 1;
    let mut all: Vec<_> = cycle
        .iter()
        .rev()
        .filter(|(_, values)| !values.is_empty())
        .map(|(callback, values)| {
            let own = stride;
            stride *= values.len();
            (*callback, values.clone(), own)
        })
        .collect();
    all.reverse();
    all
}

/// The others return void: there is no way for them to fail.
fn has_result(callback: Callback) -> bool {
    use Callback::{Cleanup, Close, DumpPlugin, Load, Unload};
    !matches!(callback, Load | Unload | DumpPlugin | Cleanup | Close)
}

fn nullable(value: &Nullable) -> Option<CString> {
    match value {
        Nullable::Text(text) => Some(c_string(text)),
        Nullable::Null => None,
    }
}

fn pointer(value: &Option<CString>) -> *const c_char {
    value.as_ref().map_or(null(), |text| text.as_ptr())
}

/// Up to the first NUL, where C would end it.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// A plain sleep: not the server's, which ends early at shutdown, and not cut short by signals.
fn sleep(milliseconds: u32) {
    let mut left = libc::timespec {
        tv_sec: (milliseconds / 1000).into(),
        tv_nsec: (milliseconds % 1000 * 1_000_000).into(),
    };
    // SAFETY: both pointers are to a valid timespec.
    while unsafe { libc::nanosleep(&raw const left, &raw mut left) } == -1
        && crate::errno::get() == libc::EINTR
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_call_fails_and_no_other() {
        let told = Telling::Both;
        let fail =
            vec![Failure { callback: Callback::Pread, nth: Some(2), errno: 28, after_next: false, told }];
        let shape = Shape::new(&Behaviour { fail, ..Behaviour::default() });
        let fates = [(); 3].map(|()| shape.begin(Callback::Pread).fate);
        assert_eq!(fates, [Fate::Natural, Fate::Fails(28), Fate::Natural]);
        assert_eq!(shape.begin(Callback::Pwrite).fate, Fate::Natural);
    }

    #[test]
    fn from_the_nth_call_on_all_fail() {
        let fails_from = [(Callback::Pread, 2)].into();
        let shape = Shape::new(&Behaviour { fails_from, bad: Some([10, 20]), ..Behaviour::default() });
        let fates = [(); 3].map(|()| shape.begin(Callback::Pread).fate);
        assert_eq!(fates, [Fate::Natural, Fate::Fails(libc::EIO), Fate::Fails(libc::EIO)]);
        assert_eq!(
            [(0, 10), (0, 11), (19, 1), (20, 5)].map(|(at, count)| shape.is_bad(at, count)),
            [false, true, true, false]
        );
    }

    #[test]
    fn deeds_are_done_in_their_calls() {
        let act = |nth, deed| Act { callback: Callback::Open, nth, deed };
        let acts = vec![act(Some(2), Deed::Shutdown), act(None, Deed::Identify)];
        let shape = Shape::new(&Behaviour { acts, ..Behaviour::default() });
        let deeds = |nth| shape.deeds(Callback::Open, nth).collect::<Vec<_>>();
        assert_eq!(deeds(1), [Deed::Identify]);
        assert_eq!(deeds(2), [Deed::Shutdown, Deed::Identify]);
        assert!(shape.deeds(Callback::Close, 1).next().is_none());
    }

    #[test]
    fn answers_go_through_all_combinations() {
        let cycle = vec![(Callback::CanZero, vec![0, 1]), (Callback::CanFua, vec![0, 1, 2])];
        let shape = Shape::new(&Behaviour { cycle, ..Behaviour::default() });
        let turn = |_| {
            let handle = shape.handle();
            let answer = |query| shape.answer_on(handle, query).unwrap();
            (answer(Callback::CanZero), answer(Callback::CanFua))
        };
        let turns: Vec<_> = (0..7).map(turn).collect();
        assert_eq!(turns, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 0)]);
        assert_eq!(shape.answer_on(shape.handle(), Callback::CanCache), None);
    }

    #[test]
    fn every_other_open_is_answered_otherwise() {
        let every_other = [(Callback::CanZero, 0)].into();
        let shape = Shape::new(&Behaviour { every_other, ..Behaviour::default() });
        let answers = [(); 4].map(|()| shape.answer_on(shape.handle(), Callback::CanZero));
        assert_eq!(answers, [None, Some(0), None, Some(0)]);
    }

    #[test]
    fn null_and_absent_answers_differ() {
        let shape = Shape::new(&Behaviour { default_export: Some(Nullable::Null), ..Behaviour::default() });
        assert_eq!(shape.default_export(), Some(null()));
        assert_eq!(shape.description(), None);
    }
}
