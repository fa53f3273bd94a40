//! Reading a trace, which may be anything: the file is hostile input until it has been read.

use std::sync::atomic::Ordering::Relaxed;

use crate::callback::Callback;
use crate::event::{Below, Breach, Event, Field, Kind, Operation, Probe, Text};
use crate::header::{HEADER_SIZE, MAGIC, VERSION};
use crate::record::{RECORD_SIZE, Record, TEXT_CONTINUES, TEXT_CUT, TEXT_SIZE};
use crate::writer::{MOST_RECORDS, Writer};

/// Why these bytes are not a trace, or not a whole one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too short or without the magic bytes.
    #[error("it is not a trace: it does not begin with `layerstr`")]
    NotATrace,
    /// Written by another version of the format.
    #[error(
        "it is a trace of format {found}, and this program reads format {VERSION}: read it with the version of layers that wrote it"
    )]
    Version {
        /// The version in the header.
        found: u32,
    },
    /// Header fields that contradict one another.
    #[error("its header is damaged: {what}")]
    Header {
        /// Which field.
        what: &'static str,
    },
    /// It is read while it is written, and then never again.
    #[error(
        "its records wrap: `layers watch` judges it while its server runs, and nothing can judge it again"
    )]
    Wraps,
    /// The file ends before the last record that was claimed.
    #[error("it was cut off: {have} bytes are there, and its header tells of {need}")]
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes that the header and the claimed records take.
        need: u64,
    },
    /// A published record that no writer makes.
    #[error("its record {position} is damaged: {what}")]
    Record {
        /// Where.
        position: u64,
        /// Which field.
        what: &'static str,
    },
}

/// A trace in memory, whole or still growing.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    source: Source<'a>,
    epoch: u32,
    capacity: u64,
    cursor: u64,
    run_id: u64,
    realtime: u64,
    monotonic: u64,
    /// A field of a shared header that another process has changed.
    changed: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Bytes(&'a [u8]),
    Shared(&'a Writer),
}

impl<'a> Reader<'a> {
    /// Reads a trace from a file's bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Reader<'a>, ReadError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(ReadError::NotATrace);
        }
        let have = bytes.len() as u64;
        let need = HEADER_SIZE as u64;
        let header = bytes.get(..HEADER_SIZE).ok_or(ReadError::Truncated { have, need })?;
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(ReadError::Version { found: version });
        }
        if u32_at(header, 12) as usize != RECORD_SIZE {
            return Err(ReadError::Header { what: "record size" });
        }
        let capacity = u64_at(header, 16);
        if capacity > MOST_RECORDS {
            return Err(ReadError::Header { what: "capacity" });
        }
        if u32_at(header, 72) != 0 {
            return Err(ReadError::Wraps);
        }
        let cursor = u64_at(header, 128);
        let need = HEADER_SIZE as u64 + cursor.min(capacity) * RECORD_SIZE as u64;
        if have < need {
            return Err(ReadError::Truncated { have, need });
        }
        Ok(Reader {
            source: Source::Bytes(bytes),
            epoch: u32_at(header, 32),
            capacity,
            cursor,
            run_id: u64_at(header, 24),
            realtime: u64_at(header, 40),
            monotonic: u64_at(header, 48),
            changed: None,
        })
    }

    /// Reads the trace that this writer shares, as far as it has grown by now.
    pub fn of(writer: &'a Writer) -> Reader<'a> {
        let header = writer.header();
        Reader {
            source: Source::Shared(writer),
            epoch: header.epoch.load(Relaxed),
            capacity: writer.capacity(),
            cursor: writer.cursor(),
            run_id: header.run_id.load(Relaxed),
            realtime: header.realtime.load(Relaxed),
            monotonic: header.monotonic.load(Relaxed),
            changed: writer.changed_field(),
        }
    }

    /// Returns what another process has done to the header of a shared trace, if anything: such a trace proves nothing.
    pub fn header_damage(&self) -> Option<ReadError> {
        self.changed.map(|what| ReadError::Header { what })
    }

    /// Records that were claimed and fitted. Where they wrap: those that count, in all rounds.
    pub fn records(&self) -> u64 {
        match self.ring() {
            None => self.cursor.min(self.capacity),
            Some(_) => self.cursor.min(self.stopped().unwrap_or(u64::MAX)).min(MOST_RECORDS),
        }
    }

    /// Records that did not fit: a trace with any is never judged a pass.
    pub fn lost(&self) -> u64 {
        self.ring().map_or(self.cursor.saturating_sub(self.capacity), |_| 0)
    }

    fn ring(&self) -> Option<&'a Writer> {
        match self.source {
            Source::Shared(writer) if writer.wraps() => Some(writer),
            _ => None,
        }
    }

    /// Of a trace that wraps: how many calls were left out because the reader was left behind, and the position from which on.
    pub fn left_out(&self) -> Option<(u64, u64)> {
        let header = self.ring()?.header();
        let calls = header.left_out.load(Relaxed);
        (calls > 0).then(|| (calls, header.left_out_from.load(Relaxed).saturating_sub(1)))
    }

    /// Of a trace that wraps: the position from which on nothing was recorded any more, because the reader was left behind.
    pub fn stopped(&self) -> Option<u64> {
        self.ring()?.header().stopped.load(Relaxed).checked_sub(1)
    }

    /// Tells one run from another.
    pub fn run_id(&self) -> u64 {
        self.run_id
    }

    /// Wall clock (nanoseconds since 1970) at the given time of an event.
    pub fn wall_clock(&self, time: u64) -> u64 {
        self.realtime.wrapping_add(time.wrapping_sub(self.monotonic))
    }

    /// The events from the first on.
    pub fn events(&self) -> Events<'a> {
        self.events_from(0)
    }

    /// The events from this position on.
    pub fn events_from(&self, position: u64) -> Events<'a> {
        // Of a trace that wraps there is no more than this, whatever its header says.
        let most = self.ring().map_or(u64::MAX, |_| position.saturating_add(self.capacity));
        Events { reader: *self, next: position, end: self.records().min(most), waits: false, unpublished: 0 }
    }

    fn published(&self, position: u64) -> Option<Record> {
        if position >= self.records() {
            return None;
        }
        match self.source {
            Source::Shared(writer) => writer.published(position),
            Source::Bytes(bytes) => {
                let start = HEADER_SIZE + usize::try_from(position).ok()? * RECORD_SIZE;
                let record = Record::from_bytes(bytes.get(start..start + RECORD_SIZE)?)?;
                (record.epoch == self.epoch).then_some(record)
            }
        }
    }

    fn event(&self, position: u64, record: Record, kind: Kind) -> Result<Event, ReadError> {
        let bad = |what| ReadError::Record { position, what };
        let known = match kind {
            Kind::Enter | Kind::Exit => Callback::from_number(record.callback).is_some(),
            Kind::Probe => Probe::from_number(record.callback).is_some(),
            Kind::Request | Kind::Reply => Operation::from_number(record.callback).is_some(),
            Kind::Ask | Kind::Answer => Below::from_number(record.callback).is_some(),
            Kind::Breach => Breach::from_number(record.callback).is_some(),
            Kind::Layer | Kind::Run | Kind::Signal | Kind::End | Kind::Text => true,
        };
        if !known {
            return Err(bad("callback, operation or probe"));
        }
        let refers_back = match kind {
            Kind::Enter | Kind::Request | Kind::Ask => u64::from(record.call) == position,
            // An exit whose enter was lost says so.
            Kind::Exit | Kind::Reply | Kind::Answer => {
                u64::from(record.call) < position || record.call == u32::MAX
            }
            _ => true,
        };
        if !refers_back {
            return Err(bad("the call it belongs to"));
        }
        let mut texts: Vec<Text> = Vec::new();
        for offset in 1..=u64::from(record.texts) {
            let part = self.published(position + offset).filter(|part| part.kind == Kind::Text as u8);
            let part = part.ok_or(bad("its texts"))?;
            let field = Field::from_number(part.callback).ok_or(bad("field of a text"))?;
            let bytes = part.to_bytes();
            let length = usize::from(part.texts);
            let bytes = bytes.get(8..8 + length.min(TEXT_SIZE)).filter(|bytes| bytes.len() == length);
            let bytes = bytes.ok_or(bad("length of a text"))?;
            let cut = part.layer & TEXT_CUT != 0;
            if part.layer & TEXT_CONTINUES == 0 {
                texts.push(Text { field, bytes: bytes.to_vec(), cut });
            } else {
                let text = texts.last_mut().filter(|text| text.field == field);
                text.ok_or(bad("a text that continues none"))?.bytes.extend_from_slice(bytes);
            }
        }
        Ok(Event {
            position: position as u32,
            kind,
            layer: record.layer,
            number: record.callback,
            tid: record.tid,
            pid: record.pid,
            call: record.call,
            handle: record.handle,
            time: record.time,
            context: record.context,
            a: record.a,
            b: record.b,
            c: record.c,
            d: record.d,
            texts,
        })
    }
}

/// The events of a trace in order; ends after the first damaged record.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    reader: Reader<'a>,
    next: u64,
    end: u64,
    waits: bool,
    unpublished: u64,
}

impl Events<'_> {
    /// Ends before the first record that is not published yet, as long as somebody may be writing it.
    pub fn waiting(self) -> Self {
        Events { waits: true, ..self }
    }

    /// The position after the last event.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Records met so far that were claimed and never published: what was being written when the server died.
    pub fn unpublished(&self) -> u64 {
        self.unpublished
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let position = self.next;
            let Some(record) = self.reader.published(position) else {
                if self.waits {
                    return None;
                }
                self.next += 1;
                self.unpublished += 1;
                continue;
            };
            self.next += 1;
            let event = match Kind::from_number(record.kind) {
                // Its owner was never published.
                Some(Kind::Text) => continue,
                Some(kind) => self.reader.event(position, record, kind),
                None => Err(ReadError::Record { position, what: "kind" }),
            };
            match &event {
                Ok(_) => self.next += u64::from(record.texts),
                Err(_) => self.next = u64::MAX,
            }
            return Some(event);
        }
        None
    }
}

/// Writes events as a trace file, at their positions; what lies between them is left unpublished.
///
/// For traces that are made or changed rather than recorded: tests, and rules' own counter-examples. The file is as
/// long as the last position asks for. Of events that overlap, the last one is whole.
pub fn write_trace(events: &[Event], run_id: u64) -> Vec<u8> {
    const EPOCH: u32 = 1;
    let packed: Vec<_> =
        events.iter().map(|event| (event.position as usize, event.to_records(EPOCH))).collect();
    let records = packed.iter().map(|(position, records)| position + records.len()).max().unwrap_or(0);
    let mut bytes = vec![0; HEADER_SIZE + records * RECORD_SIZE];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(to) = bytes.get_mut(at..at + value.len()) {
            to.copy_from_slice(value);
        }
    };
    put(0, &MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &(RECORD_SIZE as u32).to_le_bytes());
    put(16, &(records as u64).to_le_bytes());
    put(24, &run_id.to_le_bytes());
    put(32, &EPOCH.to_le_bytes());
    put(128, &(records as u64).to_le_bytes());
    for (position, records) in packed {
        put(HEADER_SIZE + position * RECORD_SIZE, records.as_flattened());
    }
    bytes
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
