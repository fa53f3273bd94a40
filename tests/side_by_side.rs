//! Work on many things at a time, for tests.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does this for each item, so many at a time for each processor; the results are in the order of the items.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    for_each_processor: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        items.get(index).map(|item| (index, work(item)))
    };
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let worker = || scope.spawn(|| std::iter::from_fn(take).collect::<Vec<_>>());
        let workers: Vec<_> = (0..processors * for_each_processor).map(|_| worker()).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
