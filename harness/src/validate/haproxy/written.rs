//! The data of modules in a running server: what is written there stays when a command is over.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::subject::canonical;

/// Bytes of a module's data that are looked at.
const MOST: u64 = 4 << 20;

/// Where the modules have their data.
pub(super) struct Written {
    memory: Option<File>,
    ranges: Vec<Range<u64>>,
}

impl Written {
    /// Of these modules in the process with this id: mappings of the file that can be written, and the zeroes behind them.
    pub(super) fn of(modules: &[PathBuf], pid: u32) -> Written {
        let modules: Vec<String> = modules.iter().map(|path| canonical(path).display().to_string()).collect();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for line in maps.lines() {
            let Some((range, access, file)) = mapping(line) else { continue };
            let follows = ranges.last().is_some_and(|last| last.end == range.start) && file.is_empty();
            if access.contains('w') && (follows || modules.contains(&file)) {
                ranges.push(range);
            }
        }
        Written { memory: File::open(format!("/proc/{pid}/mem")).ok(), ranges }
    }

    /// Everything that is there now; nothing where it cannot be read.
    pub(super) fn look(&self) -> Option<Vec<u8>> {
        let memory = self.memory.as_ref().filter(|_| !self.ranges.is_empty())?;
        let mut all = Vec::new();
        for range in &self.ranges {
            let mut bytes = vec![0; usize::try_from((range.end - range.start).min(MOST)).ok()?];
            memory.read_exact_at(&mut bytes, range.start).ok()?;
            all.extend(bytes);
        }
        Some(all)
    }
}

fn mapping(line: &str) -> Option<(Range<u64>, &str, String)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    let access = words.next()?;
    Some((range, access, words.skip(3).collect::<Vec<_>>().join(" ")))
}
