//! What the target asks of the system in a call: what it writes to files and makes durable there, and what fails for it.
//!
//! The functions of the C library are seen where the target's own image calls them ([`crate::midway`]), so nothing is counted
//! that the server or a library does. Files are known by device and inode, whatever descriptor they are reached by. A file
//! that has no name any more, one that is only appended to, and what is no file at all is nothing that a flush is about; and a
//! descriptor with O_DSYNC needs none.

use std::cell::Cell;
use std::ffi::{OsString, c_int};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use layers_behaviour::{Failing, Refused};
use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Callback, Probe, Writer};

use crate::errno;
use crate::init::MOST_FILTERS;
use crate::layer::Layer;

/// NBDKIT_FLAG_FUA
const FUA: u32 = 1 << 1;

/// What a call is, as far as files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It changes the disk; and all that it has changed is durable when it has succeeded.
    Changes { forced: bool },
    /// All that was changed before it is durable when it has succeeded. `alone` says that nothing else that may write to files
    /// was going on when it began.
    Flushes { alone: bool },
    /// Neither.
    Other,
}

/// The call that this thread is in.
#[derive(Clone, Copy, Debug)]
struct Inside {
    /// Its position in the trace; 0 outside of calls.
    id: u32,
    kind: Kind,
    /// When it began.
    begun: u64,
    /// What fails in it.
    fails: Option<Failing>,
    /// How often that could have been so far.
    seen: u32,
    /// Where that is recorded, and as which layer's.
    writer: Option<&'static Writer>,
    layer: u8,
    /// When it last wrote to a file, and to which.
    wrote: Option<(u64, usize)>,
}

const OUTSIDE: Inside =
    Inside { id: 0, kind: Kind::Other, begun: 0, fails: None, seen: 0, writer: None, layer: 0, wrote: None };

thread_local! {
    static INSIDE: Cell<Inside> = const { Cell::new(OUTSIDE) };
}

/// What was going on before a call.
#[derive(Clone, Copy, Debug)]
pub struct Before(Inside);

/// A file that was written to and not synchronised.
#[derive(Debug)]
pub struct Volatile {
    /// The call that has written to it; 0 where it was outside of any.
    pub by: u32,
    /// The last part of its path; empty where that is not known.
    pub name: OsString,
}

/// A file that was written to.
#[derive(Clone, Copy, Debug)]
struct File {
    device: libc::dev_t,
    inode: libc::ino_t,
    descriptor: c_int,
    /// When the first write came that nothing has made durable; 0 where there is none.
    oldest: u64,
    latest: u64,
    /// The call that it was in.
    by: u32,
    /// When what has made it durable last began.
    synced: u64,
}

static FILES: Mutex<Vec<File>> = Mutex::new(Vec::new());
/// Orders writes, synchronisations and calls.
static CLOCK: AtomicU64 = AtomicU64::new(1);
/// Calls in flight that may write to files.
static CHANGING: AtomicU32 = AtomicU32::new(0);
/// Calls of each callback of each layer so far, where something fails.
static CALLS: [[AtomicU32; CALLBACKS]; LAYERS] = [const { [const { AtomicU32::new(0) }; CALLBACKS] }; LAYERS];
const CALLBACKS: usize = 64;
const LAYERS: usize = MOST_FILTERS as usize + 1;

fn files() -> MutexGuard<'static, Vec<File>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    CLOCK.fetch_add(1, Ordering::SeqCst)
}

/// The target of this layer is called next.
pub fn enter(layer: &Layer, callback: Callback, flags: u32, id: u32) -> Before {
    begin(
        Inside { writer: Some(layer.writer), layer: layer.number, fails: layer.fails, id, ..OUTSIDE },
        callback,
        flags,
    )
}

fn begin(inside: Inside, callback: Callback, flags: u32) -> Before {
    let kind = match callback {
        Callback::Pwrite
        | Callback::PwriteV1
        | Callback::Zero
        | Callback::ZeroV1
        | Callback::Trim
        | Callback::TrimV1 => Kind::Changes { forced: flags & FUA != 0 },
        // It may write back what a cache of the connection holds.
        Callback::Close => Kind::Changes { forced: false },
        Callback::Flush | Callback::FlushV1 => Kind::Flushes { alone: CHANGING.load(Ordering::SeqCst) == 0 },
        _ => Kind::Other,
    };
    if kind != Kind::Other {
        CHANGING.fetch_add(1, Ordering::SeqCst);
    }
    let may_fail = callback == Callback::Open || callback.is_data();
    let fails = inside.fails.filter(|_| may_fail && is_turn(inside.layer, callback));
    Before(INSIDE.replace(Inside { kind, begun: now(), fails, ..inside }))
}

/// Every other call of a callback is left alone, and the first one is.
fn is_turn(layer: u8, callback: Callback) -> bool {
    let calls = CALLS.get(usize::from(layer)).and_then(|calls| calls.get(callback as usize));
    calls.is_some_and(|calls| !calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2))
}

/// The target has returned. Where it has promised that files are durable, and there are any, says whether they are.
pub fn leave(before: Before, has_failed: bool) -> Option<Result<(), Volatile>> {
    let inside = INSIDE.replace(before.0);
    if inside.kind != Kind::Other {
        CHANGING.fetch_sub(1, Ordering::SeqCst);
    }
    if has_failed { None } else { judge(&inside) }
}

fn judge(inside: &Inside) -> Option<Result<(), Volatile>> {
    match inside.kind {
        Kind::Changes { forced: true } => {
            let (written, file) = inside.wrote?;
            let file = *files().get(file)?;
            Some(if file.synced > written { Ok(()) } else { Err(file.left(inside.id)) })
        }
        Kind::Flushes { alone: true } => {
            let files = files();
            files.first()?;
            let late = |file: &&File| file.oldest != 0 && file.oldest < inside.begun;
            let found = files.iter().find(late).copied();
            drop(files);
            Some(found.map_or(Ok(()), |file| Err(file.left(file.by))))
        }
        _ => None,
    }
}

impl File {
    fn left(&self, by: u32) -> Volatile {
        let link = PathBuf::from(format!("/proc/self/fd/{}", self.descriptor));
        let is_it = identify(self.descriptor).is_some_and(|(device, inode, _)| (device, inode) == self.id());
        let path = std::fs::read_link(link).ok().filter(|_| is_it);
        let name = path.and_then(|path| path.file_name().map(ToOwned::to_owned)).unwrap_or_default();
        Volatile { by, name }
    }

    fn id(&self) -> (libc::dev_t, libc::ino_t) {
        (self.device, self.inode)
    }
}

/// Device, inode, and whether it is something that can be made durable.
fn identify(descriptor: c_int) -> Option<(libc::dev_t, libc::ino_t, bool)> {
    // SAFETY: a structure of integers, which the call fills.
    let data = unsafe {
        let mut data: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &raw mut data) == 0).then_some(data)?
    };
    let stored = match data.st_mode & libc::S_IFMT {
        libc::S_IFREG => data.st_nlink > 0,
        libc::S_IFBLK => true,
        _ => false,
    };
    Some((data.st_dev, data.st_ino, stored))
}

fn wrote(descriptor: c_int) {
    let error = errno::get();
    // SAFETY: no preconditions.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    let needs_more = flags >= 0 && flags & (libc::O_DSYNC | libc::O_APPEND) == 0;
    if let Some((device, inode, true)) = identify(descriptor).filter(|_| needs_more) {
        note_write(device, inode, descriptor);
    }
    errno::set(error);
}

fn note_write(device: libc::dev_t, inode: libc::ino_t, descriptor: c_int) {
    let mut inside = INSIDE.get();
    let mut files = files();
    let place = files.iter().position(|file| file.id() == (device, inode)).unwrap_or_else(|| {
        files.push(File { device, inode, descriptor, oldest: 0, latest: 0, by: 0, synced: 0 });
        files.len() - 1
    });
    let time = now();
    if let Some(file) = files.get_mut(place) {
        file.descriptor = descriptor;
        file.latest = time;
        if file.oldest == 0 {
            (file.oldest, file.by) = (time, inside.id);
        }
    }
    inside.wrote = Some((time, place));
    INSIDE.set(inside);
}

/// Whatever was written before this moment to this file, or to any, is durable.
fn synced(descriptor: Option<c_int>, begun: u64) {
    let error = errno::get();
    let id = descriptor.map(|descriptor| identify(descriptor).map(|(device, inode, _)| (device, inode)));
    for file in files().iter_mut() {
        if id.is_none_or(|id| id == Some(file.id())) {
            // One that began earlier may end later, and takes nothing back.
            file.synced = file.synced.max(begun);
            if file.oldest != 0 {
                file.oldest = if file.latest < begun { 0 } else { file.oldest.max(begun) };
            }
        }
    }
    errno::set(error);
}

/// Says whether this is what is to fail now.
fn fails(kinds: &[Refused]) -> Option<Refused> {
    let mut inside = INSIDE.get();
    let failing = inside.fails.filter(|failing| kinds.contains(&failing.what))?;
    inside.seen += 1;
    INSIDE.set(inside);
    let refused = (inside.seen == failing.place).then_some(failing.what)?;
    if let Some(writer) = inside.writer {
        let note = record(layers_trace::Kind::Probe, inside.layer, Probe::Refused as u8);
        let (b, c) = (refused as u64, refused.errno().cast_unsigned());
        // At once: the target may never come back.
        writer.note(Record { call: inside.id, b, c, ..note }, &[]);
    }
    Some(refused)
}

/// What a function of the C library returns that fails with this error.
fn failure(refused: Refused) -> usize {
    errno::set(refused.errno());
    usize::MAX
}

fn descriptor<const N: usize>(arguments: &[usize; N], at: usize) -> c_int {
    arguments.get(at).copied().unwrap_or(usize::MAX) as c_int
}

/// Nothing of interest.
pub(crate) fn plain<const N: usize>(arguments: [usize; N], call: impl FnOnce([usize; N]) -> usize) -> usize {
    call(arguments)
}

/// Memory is asked for.
pub(crate) fn allocates<const N: usize>(
    arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    match fails(&[Refused::Memory]) {
        Some(refused) => {
            failure(refused);
            0
        }
        None => call(arguments),
    }
}

/// A file, or anything else, is read; the count is the third argument.
pub(crate) fn reads<const N: usize>(
    mut arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    match fails(&[Refused::Part, Refused::Interrupted, Refused::Device]) {
        Some(Refused::Part) => halve(&mut arguments),
        Some(refused) => return failure(refused),
        None => {}
    }
    call(arguments)
}

/// The same, written.
pub(crate) fn writes<const N: usize>(
    mut arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    match fails(&[Refused::Part, Refused::Interrupted, Refused::Device, Refused::Space]) {
        Some(Refused::Part) => halve(&mut arguments),
        Some(refused) => return failure(refused),
        None => {}
    }
    let to = descriptor(&arguments, 0);
    let result = call(arguments);
    if result.cast_signed() > 0 {
        wrote(to);
    }
    result
}

/// Space is taken or given back; success is 0.
pub(crate) fn resizes<const N: usize>(
    arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    if let Some(refused) = fails(&[Refused::Space]) {
        return failure(refused);
    }
    let to = descriptor(&arguments, 0);
    let result = call(arguments);
    if result as c_int == 0 {
        wrote(to);
    }
    result
}

/// What was written to one file is made durable.
pub(crate) fn syncs<const N: usize>(arguments: [usize; N], call: impl FnOnce([usize; N]) -> usize) -> usize {
    if let Some(refused) = fails(&[Refused::Device]) {
        return failure(refused);
    }
    let (of, begun) = (descriptor(&arguments, 0), now());
    let result = call(arguments);
    if result as c_int == 0 {
        synced(Some(of), begun);
    }
    result
}

/// The same, of a part of it, where that is waited for.
pub(crate) fn syncs_some<const N: usize>(
    arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    let waits = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    match arguments.last() {
        Some(flags) if *flags as u32 & waits == waits => syncs(arguments, call),
        _ => call(arguments),
    }
}

/// The same, of a mapping or of everything.
pub(crate) fn syncs_all<const N: usize>(
    arguments: [usize; N],
    call: impl FnOnce([usize; N]) -> usize,
) -> usize {
    let begun = now();
    let result = call(arguments);
    synced(None, begun);
    result
}

/// The plugin says which error its failure is.
pub(crate) fn tells<const N: usize>(arguments: [usize; N], call: impl FnOnce([usize; N]) -> usize) -> usize {
    errno::tell(descriptor(&arguments, 0));
    call(arguments)
}

fn halve<const N: usize>(arguments: &mut [usize; N]) {
    if let Some(count) = arguments.get_mut(2).filter(|count| **count > 1) {
        *count /= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// These tests share what is known of files.
    static ALONE: Mutex<()> = Mutex::new(());

    fn call(callback: Callback, flags: u32, body: impl FnOnce()) -> Option<bool> {
        let before = begin(Inside { id: 7, ..OUTSIDE }, callback, flags);
        body();
        leave(before, false).map(|durable| durable.is_ok())
    }

    fn write(to: c_int) {
        writes([to as usize, 0, 8], |_| 8);
    }

    fn sync(of: c_int) {
        syncs([of as usize], |_| 0);
    }

    #[test]
    fn a_flush_and_fua_promise_what_was_written_to_files_with_a_name() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        files().clear();
        let file = tempfile::NamedTempFile::new().unwrap();
        let unnamed = tempfile::tempfile().unwrap();
        let (to, other) = (file.as_raw_fd(), unnamed.as_raw_fd());
        assert_eq!(call(Callback::Flush, 0, || ()), None, "nothing was written to a file");
        call(Callback::Pwrite, 0, || write(other));
        assert_eq!(call(Callback::Flush, 0, || ()), None, "a file without a name goes with the process");
        call(Callback::Pwrite, 0, || write(to));
        assert_eq!(call(Callback::Flush, 0, || ()), Some(false));
        assert_eq!(call(Callback::Flush, 0, || sync(to)), Some(true));
        assert_eq!(call(Callback::Flush, 0, || ()), Some(true), "nothing was written since");
        assert_eq!(call(Callback::Pwrite, FUA, || write(to)), Some(false));
        assert_eq!(call(Callback::Zero, FUA, || (write(to), sync(to)).0), Some(true));
        assert_eq!(call(Callback::Trim, FUA, || (sync(to), write(to)).0), Some(false), "it came too early");
        let again = file.reopen().unwrap();
        assert_eq!(call(Callback::Flush, 0, || sync(again.as_raw_fd())), Some(true), "it is the same file");
    }

    #[test]
    fn what_ends_later_than_it_began_takes_nothing_back() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        files().clear();
        let file = tempfile::NamedTempFile::new().unwrap();
        let to = file.as_raw_fd();
        call(Callback::Pwrite, 0, || {
            write(to);
            let beside = |_| {
                write(to);
                sync(to);
                0
            };
            syncs([to as usize], beside);
        });
        assert_eq!(call(Callback::Flush, 0, || ()), Some(true));
    }

    #[test]
    fn a_flush_beside_a_write_is_not_judged() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        files().clear();
        let file = tempfile::NamedTempFile::new().unwrap();
        let writing = begin(OUTSIDE, Callback::Pwrite, 0);
        write(file.as_raw_fd());
        assert_eq!(call(Callback::Flush, 0, || ()), None);
        leave(writing, false);
        assert_eq!(call(Callback::Flush, 0, || ()), Some(false));
    }

    #[test]
    fn what_is_to_fail_fails_in_every_other_call_and_once_in_it() {
        let failing = Failing { what: Refused::Memory, place: 2 };
        let asks = || {
            let before = begin(Inside { fails: Some(failing), ..OUTSIDE }, Callback::Cache, 0);
            let got = [0; 3].map(|_: i32| allocates([16], |_| 99));
            leave(before, false);
            got
        };
        assert_eq!([asks(), asks(), asks(), asks()], [[99; 3], [99, 0, 99], [99; 3], [99, 0, 99]]);
        assert_eq!(allocates([16], |_| 99), 99, "outside of calls nothing fails");
    }
}
