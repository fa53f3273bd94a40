//! Using the memory of a trace again.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::writer::Writer;

/// Memory of earlier traces, to be used again.
///
/// A server that maps memory which another one has already touched saves the kernel zeroing every page.
#[derive(Debug, Default)]
pub struct Pool {
    free: Mutex<Vec<(File, Writer)>>,
}

impl Pool {
    /// An empty pool.
    pub const fn new() -> Pool {
        Pool { free: Mutex::new(Vec::new()) }
    }

    /// A trace of at least this capacity: a used one made new, or what `fresh` makes.
    pub fn take(
        &self,
        capacity: u64,
        run_id: u64,
        fresh: impl FnOnce() -> io::Result<(File, Writer)>,
    ) -> io::Result<(File, Writer)> {
        match self.used(capacity) {
            Some((file, writer)) => {
                writer.reset(run_id);
                Ok((file, writer))
            }
            None => fresh(),
        }
    }

    /// Gives a trace back, once every process that wrote to it is gone.
    pub fn give(&self, file: File, writer: Writer) {
        self.free().push((file, writer));
    }

    fn used(&self, capacity: u64) -> Option<(File, Writer)> {
        let mut free = self.free();
        let position = free.iter().position(|(_, writer)| writer.capacity() >= capacity)?;
        Some(free.swap_remove(position))
    }

    fn free(&self) -> MutexGuard<'_, Vec<(File, Writer)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
