//! Work on many things at a time, for tests.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does this for each item, in order, so many at a time for each processor.
pub(crate) fn each<T: Sync>(items: &[T], for_each_processor: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, NonZero::get) * for_each_processor;
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
