//! The trace of one run, on the harness's side: made before the server starts, given back or cut to size when it is over.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use layers_trace::header::HEADER_SIZE;
use layers_trace::record::{RECORD_SIZE, Record};
use layers_trace::writer::{Pool, record};
use layers_trace::{Field, Kind, Writer};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use super::process::above_standard;
use crate::history::End;
use crate::run::Run;

/// Traces of earlier runs, for the next ones.
static POOL: Pool = Pool::new();

/// A number that no other run has: the standard library seeds its hasher at random.
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// The trace of a run.
#[derive(Debug)]
pub(super) struct Tracing {
    /// `None` only while it is dropped.
    trace: Option<(File, Arc<Writer>)>,
    kept: bool,
    ended: bool,
}

impl Tracing {
    /// A trace for so many records that begins with this description; in memory, or in the file `keep`.
    pub(super) fn begin(run: &Run, run_id: u64, capacity: u64, keep: Option<&Path>) -> io::Result<Tracing> {
        let (file, writer) = match keep {
            Some(path) => {
                let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
                let file = File::from(above_standard(file.as_fd())?);
                let writer = Writer::create(&file, capacity, run_id)?;
                (file, writer)
            }
            None => POOL.take(capacity, run_id, || fresh(capacity, run_id))?,
        };
        let description = serde_json::to_string(run).map_err(io::Error::other)?;
        writer.note(record(Kind::Run, 0, 0), &[(Field::Json, description.as_bytes())]);
        Ok(Tracing { trace: Some((file, Arc::new(writer))), kept: keep.is_some(), ended: false })
    }

    /// The file that the server is to map.
    pub(super) fn file(&self) -> io::Result<&File> {
        let file = self.trace.as_ref().map(|(file, _)| file);
        file.ok_or_else(|| io::Error::other("the trace is gone"))
    }

    /// For clients to write to.
    pub(super) fn writer(&self) -> Option<&Arc<Writer>> {
        self.trace.as_ref().map(|(_, writer)| writer)
    }

    /// The harness sends this signal next.
    pub(super) fn signal(&self, signal: Signal) {
        let number = signal.as_raw().cast_unsigned().into();
        self.note(Record { a: number, ..record(Kind::Signal, 0, 0) }, &[]);
    }

    /// The server has ended like this, with these texts; only the first time counts.
    pub(super) fn end(&mut self, end: End, texts: &[(Field, &[u8])]) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let status = match end {
            End::Exited(code) => code << 8,
            End::Killed(signal) => signal,
        };
        self.note(Record { a: status.cast_unsigned().into(), ..record(Kind::End, 0, 0) }, texts);
    }

    fn note(&self, record: Record, texts: &[(Field, &[u8])]) {
        if let Some(writer) = self.writer() {
            writer.note(record, texts);
        }
    }
}

fn fresh(capacity: u64, run_id: u64) -> io::Result<(File, Writer)> {
    let memory = memfd_create("trace", MemfdFlags::CLOEXEC)?;
    let file = File::from(above_standard(memory.as_fd())?);
    let writer = Writer::create(&file, capacity, run_id)?;
    Ok((file, writer))
}

/// The server and all that it has left must be gone by now: nobody else writes to the trace.
impl Drop for Tracing {
    fn drop(&mut self) {
        let Some((file, writer)) = self.trace.take() else { return };
        if self.kept {
            let records = writer.cursor().min(writer.capacity()) * RECORD_SIZE as u64;
            let _ = file.set_len(HEADER_SIZE as u64 + records);
        } else if let Ok(writer) = Arc::try_unwrap(writer) {
            POOL.give(file, writer);
        }
    }
}
