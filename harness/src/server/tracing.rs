//! The trace of one run, on the harness's side: made before the server starts, given back or cut to size when it is over.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use layers_trace::header::HEADER_SIZE;
use layers_trace::record::{RECORD_SIZE, Record};
use layers_trace::writer::{Pool, record};
use layers_trace::{Field, Kind, Writer};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::Signal;

use super::interrupt;
use super::process::above_standard;
use crate::foreign::pipe::Patient;
use crate::history::End;
use crate::run::Run;

/// Traces of earlier runs, for the next ones.
static POOL: Pool = Pool::new();

/// The trace of a run.
#[derive(Debug)]
pub(super) struct Tracing {
    /// `None` only while it is dropped.
    trace: Option<(File, Arc<Writer>)>,
    /// Where the trace is to be kept.
    keep: Option<Arc<Keep>>,
    ended: bool,
}

impl Tracing {
    /// A trace for so many records that begins with this description; in memory, or in the file `keep`.
    pub(super) fn begin(run: &Run, run_id: u64, capacity: u64, keep: Option<&Path>) -> io::Result<Tracing> {
        // First, so that a path that cannot be written to is an error before anything has run.
        let keep = keep.map(Patient::create).transpose()?;
        let (file, writer) = POOL.take(capacity, run_id, || fresh(capacity, run_id))?;
        let writer = Arc::new(writer);
        let keep = match keep {
            Some(to) => {
                let to = Mutex::new(Some(to));
                let keep = Keep { memory: file.try_clone()?, writer: Arc::clone(&writer), to };
                let keep = Arc::new(keep);
                let at_the_end = Arc::clone(&keep);
                interrupt::before_the_end(run_id, move || drop(at_the_end.save()));
                Some(keep)
            }
            None => None,
        };
        writer.set_digests(run.digests);
        let description = serde_json::to_string(run).map_err(io::Error::other)?;
        writer.note(record(Kind::Run, 0, 0), &[(Field::Json, description.as_bytes())]);
        Ok(Tracing { trace: Some((file, writer)), keep, ended: false })
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
        self.note(Record { a: end.status(), ..record(Kind::End, 0, 0) }, texts);
    }

    /// Writes the trace, as far as it has grown, to the file in which it is to be kept; once, and only if there is one.
    pub(super) fn save(&self) -> io::Result<()> {
        self.keep.as_ref().map_or(Ok(()), |keep| keep.save())
    }

    fn note(&self, record: Record, texts: &[(Field, &[u8])]) {
        if let Some(writer) = self.writer() {
            writer.note(record, texts);
        }
    }
}

/// A trace that is to be kept in a file.
#[derive(Debug)]
struct Keep {
    memory: File,
    writer: Arc<Writer>,
    /// The file, until it has been written.
    to: Mutex<Option<Patient>>,
}

impl Keep {
    fn save(&self) -> io::Result<()> {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut to) = to else { return Ok(()) };
        let records = self.writer.cursor().min(self.writer.capacity());
        let mut memory = &self.memory;
        memory.rewind()?;
        io::copy(&mut memory.take(HEADER_SIZE as u64 + records * RECORD_SIZE as u64), &mut to)?;
        Ok(())
    }
}

/// Makes memory for a trace. It is always memory, also when the trace is to be kept in a file: memory can be sealed, and
/// what a server cuts short would end whoever has it mapped.
fn fresh(capacity: u64, run_id: u64) -> io::Result<(File, Writer)> {
    let memory = memfd_create("trace", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let file = File::from(above_standard(memory.as_fd())?);
    let writer = Writer::create(&file, capacity, run_id)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok((file, writer))
}

/// The server and all that it has left must be gone by now: nobody else writes to the trace.
impl Drop for Tracing {
    fn drop(&mut self) {
        // Whoever wants to hear of an error has saved it before.
        let _ = self.save();
        self.keep = None;
        let Some((file, writer)) = self.trace.take() else { return };
        if let Ok(writer) = Arc::try_unwrap(writer) {
            POOL.give(file, writer);
        }
    }
}
