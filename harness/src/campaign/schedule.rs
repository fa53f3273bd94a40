//! Work done side by side, and heard of in order.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// What is to be done: so many items, some of which need the machine to themselves.
pub(crate) struct Items {
    /// For each, whether nothing else of ours may run meanwhile.
    pub(crate) alone: Vec<bool>,
    /// How many of the others run at a time.
    pub(crate) jobs: NonZeroUsize,
}

/// Does `work` for each item, and hands the results to `take` in the items' order, each as soon as those before it are there.
///
/// Those that need the machine to themselves come last.
///
/// The first error in that order ends everything; what has begun comes to its end.
pub(crate) fn in_order<T, E>(
    items: &Items,
    work: impl Fn(usize) -> Result<T, E> + Sync,
    mut take: impl FnMut(usize, T),
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let (alone, together): (Vec<usize>, Vec<usize>) =
        (0..items.alone.len()).partition(|item| items.alone.get(*item) == Some(&true));
    let one = NonZeroUsize::MIN;
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for (group, jobs) in [(together, items.jobs), (alone, one)] {
        side_by_side(&group, jobs, &work, |item, result| {
            waiting.insert(item, result);
            while let Some(result) = waiting.remove(&next) {
                take(next, result?);
                next += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Does `work` for each of `group` in so many threads, and hands each result to `done` at once, in this thread.
fn side_by_side<T, E>(
    group: &[usize],
    jobs: NonZeroUsize,
    work: &(impl Fn(usize) -> Result<T, E> + Sync),
    mut done: impl FnMut(usize, Result<T, E>) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    E: Send,
{
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        // A server dies with the thread that started it, which therefore plays its scenario to the end.
        let worker = |sender: mpsc::Sender<(usize, Result<T, E>)>| {
            let (next, stop) = (&next, &stop);
            move || {
                while let Some(item) = group.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) || sender.send((*item, work(*item))).is_err() {
                        return;
                    }
                }
            }
        };
        let start = || thread::Builder::new().spawn_scoped(scope, worker(sender.clone())).is_ok();
        let started = (0..jobs.get().min(group.len())).take_while(|_| start()).count();
        if started == 0 {
            // The system has no thread for us: this one does it all, and hears of it at the end.
            worker(sender.clone())();
        }
        drop(sender);
        let outcome = results.iter().try_for_each(|(item, result)| done(item, result));
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Condvar, Mutex};

    use super::*;

    fn items(alone: &[bool], jobs: usize) -> Items {
        Items { alone: alone.to_vec(), jobs: NonZeroUsize::new(jobs).unwrap() }
    }

    #[test]
    fn results_come_in_order_however_many_work() {
        for jobs in [1, 2, 7] {
            let mut seen = Vec::new();
            let alone: Vec<bool> = (0..50).map(|item| item % 9 == 3).collect();
            in_order(
                &items(&alone, jobs),
                |item| Ok::<_, Infallible>(item * 2),
                |item, result| {
                    seen.push((item, result));
                },
            )
            .unwrap();
            assert_eq!(seen, (0..50).map(|item| (item, item * 2)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_jobs_work_at_the_same_time() {
        // Each of the first two waits for the other: alone neither would come to its end.
        let (met, both) = (Mutex::new(0), Condvar::new());
        let meet = |_| {
            let mut here = met.lock().unwrap();
            *here += 1;
            both.notify_all();
            let wait = std::time::Duration::from_secs(20);
            let (here, late) = both.wait_timeout_while(here, wait, |here| *here < 2).unwrap();
            drop(here);
            if late.timed_out() { Err("alone") } else { Ok(()) }
        };
        assert_eq!(in_order(&items(&[false, false], 2), meet, |_, ()| {}), Ok(()));
    }

    #[test]
    fn what_needs_quiet_has_it() {
        let running = AtomicUsize::new(0);
        let alone: Vec<bool> = (0..60).map(|item| item % 5 == 0).collect();
        let work = |item: usize| {
            let others = running.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            let after = running.fetch_sub(1, Ordering::SeqCst) - 1;
            if alone[item] && others + after > 0 { Err(item) } else { Ok(()) }
        };
        assert_eq!(in_order(&items(&alone, 4), work, |_, ()| {}), Ok(()));
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut seen = Vec::new();
        let work = |item| if item == 3 { Err("three") } else { Ok(item) };
        let outcome = in_order(&items(&[false; 1000], 2), work, |item, _| seen.push(item));
        assert_eq!(outcome, Err("three"));
        assert_eq!(seen, [0, 1, 2]);
    }
}
