//! The reference plugin: a disk in memory that has every callback and does what its behaviour says.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use layers_abi::arguments::{
    Buffer, Count, DescriptionResult, ExportNameResult, Exports, Extents, Flags, Handle, IsTls, Key, Maximum,
    Minimum, Offset, Outcome, Preferred, ReadOnly, Value,
};
use layers_abi::constants::{NATIVE, PARALLEL};
use layers_abi::lent_string::LentString;
use layers_abi::plugin::Plugin;
use layers_abi::prepared::{Fate, Shape};
use layers_abi::server::{
    Services, nbdkit_add_export, nbdkit_add_extent, nbdkit_error, nbdkit_export_name, nbdkit_is_tls,
    nbdkit_parse_size, nbdkit_set_error, nbdkit_strdup_intern,
};
use layers_abi::{errno, side_effects};
use layers_behaviour::{Behaviour, Deed, Extents as Wrong, Telling};
use layers_trace::digest::{EXTENT_SIZE, Extent, MOST_EXTENTS};
use layers_trace::record::Record;
use layers_trace::{Callback, Field, Probe};

use crate::disk::Disk;
use crate::wrapped::wrapped;

/// NBDKIT_FLAG_REQ_ONE
const REQ_ONE: u32 = 1 << 2;
/// NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
const HOLE: u32 = 1 << 0 | 1 << 1;

struct Reference {
    shape: Shape,
    disk: Disk,
    table: Plugin,
}

static REFERENCE: OnceLock<Reference> = OnceLock::new();

/// Its structure, without the callbacks that this behaviour does not want.
pub(crate) fn table(behaviour: &Behaviour) -> *const Plugin {
    let mut table = TABLE;
    for callback in &behaviour.absent {
        table.remove(*callback);
    }
    table.errno_is_preserved = c_int::from(behaviour.errno_is_preserved);
    if behaviour.no_magic_key {
        table.magic_config_key = null();
    }
    if behaviour.no_words {
        table._struct_size = std::mem::offset_of!(Plugin, block_size) as u64;
        for word in [&mut table.longname, &mut table.version, &mut table.description, &mut table.config_help]
        {
            *word = null();
        }
    }
    if let Some(model) = behaviour.thread_model_macro {
        table._thread_model = model.into();
    }
    let disk = Disk::default();
    if let Some(size) = behaviour.answers.get(&Callback::GetSize).and_then(|size| u64::try_from(*size).ok()) {
        disk.set_size(size);
    }
    let reference = Reference { shape: Shape::new(behaviour), disk, table };
    &raw const REFERENCE.get_or_init(|| reference).table
}

const TABLE: Plugin = Plugin {
    _struct_size: size_of::<Plugin>() as u64,
    _api_version: 2,
    _thread_model: PARALLEL,
    name: c"layers".as_ptr(),
    longname: c"layers reference plugin".as_ptr(),
    version: concat_version(),
    description: c"A disk in memory whose every callback is there and recorded".as_ptr(),
    config_help: c"size=<SIZE>  Size of the disk (default 1M).".as_ptr(),
    magic_config_key: c"size".as_ptr(),
    load: Some(load),
    unload: Some(unload),
    config: Some(config),
    config_complete: Some(config_complete),
    thread_model: Some(thread_model),
    dump_plugin: Some(dump_plugin),
    get_ready: Some(get_ready),
    after_fork: Some(after_fork),
    cleanup: Some(cleanup),
    preconnect: Some(preconnect),
    list_exports: Some(list_exports),
    default_export: Some(default_export),
    open: Some(open),
    close: Some(close),
    get_size: Some(get_size),
    export_description: Some(export_description),
    block_size: Some(block_size),
    can_write: Some(can_write),
    can_flush: Some(can_flush),
    is_rotational: Some(is_rotational),
    can_trim: Some(can_trim),
    can_zero: Some(can_zero),
    can_fast_zero: Some(can_fast_zero),
    can_extents: Some(can_extents),
    can_fua: Some(can_fua),
    can_multi_conn: Some(can_multi_conn),
    can_cache: Some(can_cache),
    pread: Some(pread),
    pwrite: Some(pwrite),
    flush: Some(flush),
    trim: Some(trim),
    zero: Some(zero),
    extents: Some(extents),
    cache: Some(cache),
    ..Plugin::EMPTY
};

const fn concat_version() -> *const c_char {
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version.as_ptr(),
        Err(_) => null(),
    }
}

/// One call: counted, slept in, failed if the behaviour says so, else what `work` does; before it come its deeds.
fn shaped<R: Outcome>(callback: Callback, work: impl FnOnce(&'static Reference) -> R) -> R {
    let Some(reference) = REFERENCE.get() else { return R::FAILED };
    let begun = reference.shape.begin(callback);
    for deed in reference.shape.deeds(callback, begun.nth) {
        if !perform(deed) {
            return fail(errno::get());
        }
    }
    match begun.fate {
        Fate::Natural => work(reference),
        Fate::Fails(error) | Fate::FailsAfterNext(error) => {
            let name = callback.name();
            // SAFETY: a constant format; `%.*s` takes a length and that many bytes.
            unsafe {
                let format = c"layers: %.*s fails as its behaviour says".as_ptr();
                nbdkit_error(format, name.len() as c_int, name.as_ptr());
            }
            match begun.told {
                Telling::Both => return fail(error),
                Telling::SetError => {
                    tell(error);
                    errno::set(libc::EXDEV);
                }
                Telling::Errno => errno::set(error),
                Telling::Nothing => errno::set(0),
            }
            R::FAILED
        }
    }
}

/// Whether it went well.
fn perform(deed: Deed) -> bool {
    let Some(wrapped) = wrapped() else { return true };
    let layer = &wrapped.layer;
    if deed != Deed::Identify {
        return side_effects::perform(deed, layer, Services::of_server()).unwrap_or(true);
    }
    // SAFETY: both may be called in connected callbacks; outside a connection they fail.
    let (name, is_tls) = unsafe { (nbdkit_export_name(), nbdkit_is_tls()) };
    let (a, b) = (u64::from(!name.is_null()), u64::from(is_tls.cast_unsigned()));
    side_effects::note(layer, Record { a, b, ..side_effects::probe(layer, Probe::Identity) });
    true
}

/// nbdkit_set_error, and what is recorded of it.
fn tell(error: c_int) {
    // SAFETY: no preconditions.
    unsafe { nbdkit_set_error(error) };
    errno::tell(error);
}

fn fail<R: Outcome>(error: c_int) -> R {
    tell(error);
    errno::set(error);
    R::FAILED
}

/// A request of these bytes, as [`shaped`]; EIO where it touches bytes that cannot be touched.
fn touching(
    callback: Callback,
    (count, offset): (Count, Offset),
    work: impl FnOnce(&'static Reference) -> c_int,
) -> c_int {
    shaped(callback, |reference| match reference.shape.is_bad(offset.0, count.0) {
        true => {
            // SAFETY: a constant format.
            unsafe { nbdkit_error(c"layers: bytes that cannot be touched".as_ptr()) };
            fail(libc::EIO)
        }
        false => work(reference),
    })
}

fn done(result: Result<(), c_int>) -> c_int {
    result.map_or_else(fail, |()| 0)
}

/// A question: the fixed answer of the behaviour, or this.
fn answer(handle: Handle, callback: Callback, natural: c_int) -> c_int {
    shaped(callback, |reference| match reference.shape.answer_on(handle.0, callback) {
        Some(fixed) => c_int::try_from(fixed).unwrap_or(-1),
        None => natural,
    })
}

macro_rules! questions {
    ($($variant:ident $name:ident $natural:expr;)*) => {$(
        unsafe extern "C" fn $name(handle: Handle) -> c_int {
            let natural = of_export(Callback::$variant).unwrap_or($natural);
            answer(handle, Callback::$variant, natural)
        }
    )*};
}

/// The name of the export that the calling thread serves, where answers depend on it.
fn export(reference: &Reference) -> Option<&'static CStr> {
    if !reference.shape.by_export {
        return None;
    }
    // SAFETY: may be called in connected callbacks; the name lives as long as the connection's handle.
    unsafe {
        let name = nbdkit_export_name();
        (!name.is_null()).then(|| CStr::from_ptr(name))
    }
}

/// A question whose answer depends on the name of the export: on its length.
fn of_export(callback: Callback) -> Option<c_int> {
    let length = export(REFERENCE.get()?)?.count_bytes();
    match callback {
        Callback::IsRotational => Some(c_int::from(length % 2 == 1)),
        Callback::CanMultiConn => Some(c_int::from(length % 2 == 0)),
        Callback::CanCache => c_int::try_from(length % 3).ok(),
        _ => None,
    }
}

questions! {
    CanWrite can_write 1;
    CanFlush can_flush 1;
    IsRotational is_rotational 0;
    CanTrim can_trim 1;
    CanZero can_zero 1;
    CanFastZero can_fast_zero 1;
    CanExtents can_extents 1;
    CanFua can_fua NATIVE;
    CanMultiConn can_multi_conn 1;
    CanCache can_cache NATIVE;
}

unsafe extern "C" fn load() {
    shaped(Callback::Load, |_| {
        // SAFETY: a C string; outside a connection it is kept until the plugin has been unloaded.
        let kept = unsafe { LentString::new(nbdkit_strdup_intern(c"interned in load".as_ptr())) };
        if let (Some(wrapped), Some(kept)) = (wrapped(), kept) {
            let _ = wrapped.layer.interned.set(kept);
        }
    });
}

unsafe extern "C" fn unload() {
    shaped(Callback::Unload, |_| ());
}

unsafe extern "C" fn config(key: Key, value: Value) -> c_int {
    shaped(Callback::Config, |reference| {
        // SAFETY: a key and a value of the server are C strings.
        if unsafe { CStr::from_ptr(key.0) } != c"size" {
            return 0;
        }
        // SAFETY: as above.
        match u64::try_from(unsafe { nbdkit_parse_size(value.0) }) {
            Ok(_) if reference.shape.answer(Callback::GetSize).is_some() => 0,
            Ok(size) => {
                reference.disk.set_size(size);
                0
            }
            Err(_) => -1,
        }
    })
}

unsafe extern "C" fn config_complete() -> c_int {
    shaped(Callback::ConfigComplete, |_| 0)
}

unsafe extern "C" fn thread_model() -> c_int {
    answer(Handle(null_mut()), Callback::ThreadModel, PARALLEL)
}

unsafe extern "C" fn dump_plugin() {
    shaped(Callback::DumpPlugin, |_| {
        // SAFETY: a C string, through the server's own stdout so that it comes in order.
        unsafe { libc::puts(c"layers_reference=1".as_ptr()) };
    });
}

unsafe extern "C" fn get_ready() -> c_int {
    shaped(Callback::GetReady, |_| 0)
}

unsafe extern "C" fn after_fork() -> c_int {
    shaped(Callback::AfterFork, |_| 0)
}

unsafe extern "C" fn cleanup() {
    shaped(Callback::Cleanup, |_| ());
}

unsafe extern "C" fn preconnect(_readonly: ReadOnly) -> c_int {
    shaped(Callback::Preconnect, |_| 0)
}

unsafe extern "C" fn list_exports(_readonly: ReadOnly, _is_tls: IsTls, exports: Exports) -> c_int {
    shaped(Callback::ListExports, |reference| {
        // SAFETY: the server's list and C strings, which it copies.
        let add = |name, description| unsafe { nbdkit_add_export(exports, name, description) };
        match &reference.shape.exports {
            None => add(c"".as_ptr(), null()),
            Some(list) => {
                match list.iter().all(|(name, description)| add(name.as_ptr(), description.as_ptr()) == 0) {
                    true => 0,
                    false => -1,
                }
            }
        }
    })
}

unsafe extern "C" fn default_export(_readonly: ReadOnly, _is_tls: IsTls) -> ExportNameResult {
    shaped(Callback::DefaultExport, |reference| {
        ExportNameResult(reference.shape.default_export().unwrap_or(c"".as_ptr()))
    })
}

unsafe extern "C" fn open(_readonly: ReadOnly) -> Handle {
    shaped(Callback::Open, |reference| Handle(reference.shape.handle()))
}

unsafe extern "C" fn close(_handle: Handle) {
    shaped(Callback::Close, |_| ());
}

/// The fixed answer, the parameter, or the default, in this order.
unsafe extern "C" fn get_size(handle: Handle) -> i64 {
    shaped(Callback::GetSize, |reference| {
        let less = export(reference).map_or(0, |name| 4099 * name.count_bytes() as u64);
        let size = || i64::try_from(reference.disk.size().saturating_sub(less)).unwrap_or(i64::MAX);
        reference.shape.answer_on(handle.0, Callback::GetSize).unwrap_or_else(size)
    })
}

unsafe extern "C" fn export_description(_handle: Handle) -> DescriptionResult {
    shaped(Callback::ExportDescription, |reference| {
        let Some(name) = export(reference) else {
            return DescriptionResult(reference.shape.description().unwrap_or(null()));
        };
        let text = [b"the export called ", name.to_bytes(), b"\0"].concat();
        // SAFETY: a C string, of which the server keeps a copy.
        DescriptionResult(unsafe { nbdkit_strdup_intern(text.as_ptr().cast()) })
    })
}

unsafe extern "C" fn block_size(
    _handle: Handle,
    minimum: Minimum,
    preferred: Preferred,
    maximum: Maximum,
) -> c_int {
    shaped(Callback::BlockSize, |reference| {
        let shift = export(reference).map_or(0, |name| name.count_bytes() % 4);
        let [least, best, most] = reference.shape.block_size.unwrap_or([1, 4096, u32::MAX]);
        for (to, size) in [minimum.0, preferred.0, maximum.0].into_iter().zip([least, best << shift, most]) {
            // SAFETY: the server's three variables.
            unsafe { *to = size };
        }
        0
    })
}

unsafe extern "C" fn pread(
    _handle: Handle,
    buffer: Buffer,
    count: Count,
    offset: Offset,
    _flags: Flags,
) -> c_int {
    touching(Callback::Pread, (count, offset), |reference| {
        // SAFETY: the server's buffer of `count` bytes.
        done(unsafe { reference.disk.read(buffer.0.cast(), count.0, offset.0) })
    })
}

unsafe extern "C" fn pwrite(
    _handle: Handle,
    buffer: Buffer,
    count: Count,
    offset: Offset,
    _flags: Flags,
) -> c_int {
    touching(Callback::Pwrite, (count, offset), |reference| {
        // SAFETY: the server's buffer of `count` bytes.
        done(unsafe { reference.disk.write(buffer.0.cast_const().cast(), count.0, offset.0) })
    })
}

/// Memory is as durable as it gets: nothing to do, for FUA either.
unsafe extern "C" fn flush(_handle: Handle, _flags: Flags) -> c_int {
    shaped(Callback::Flush, |_| 0)
}

unsafe extern "C" fn trim(_handle: Handle, count: Count, offset: Offset, _flags: Flags) -> c_int {
    touching(Callback::Trim, (count, offset), |reference| done(reference.disk.clear(count.0, offset.0)))
}

unsafe extern "C" fn zero(_handle: Handle, count: Count, offset: Offset, _flags: Flags) -> c_int {
    touching(Callback::Zero, (count, offset), |reference| done(reference.disk.clear(count.0, offset.0)))
}

unsafe extern "C" fn extents(
    _handle: Handle,
    count: Count,
    offset: Offset,
    flags: Flags,
    list: Extents,
) -> c_int {
    shaped(Callback::Extents, |reference| {
        let one = flags.0 & REQ_ONE != 0;
        if let Some(wrong) = wrong_extents(reference.shape.extents, offset.0) {
            // SAFETY: the server's list. Whether it takes an extent shows in what it makes of the list.
            let added = |(offset, length)| unsafe { nbdkit_add_extent(list, offset, length, HOLE) };
            return wrong.into_iter().map(added).min().unwrap_or(0);
        }
        let whole = reference.shape.extents == Wrong::Whole;
        let size = reference.disk.size();
        let made_up = whole.then(|| made_up(size)).into_iter().flatten();
        let natural = (!whole).then(|| reference.disk.extents(offset.0, count.0)).into_iter().flatten();
        let natural = natural
            .take(if one { 1 } else { usize::MAX })
            .map(|extent| (extent.offset, extent.length, if extent.is_hole { HOLE } else { 0 }));
        let mut added = Added::new(offset.0);
        for (offset, length, kind) in made_up.chain(natural) {
            // SAFETY: the server's list.
            if unsafe { nbdkit_add_extent(list, offset, length, kind) } == -1 {
                return -1;
            }
            added.note(offset, length, kind);
        }
        added.write();
        0
    })
}

/// The extents of [`Wrong::Whole`]: offsets, lengths and types. Some neighbours are of one type, and some lie behind the end.
fn made_up(size: u64) -> impl Iterator<Item = (u64, u64, u32)> {
    const KINDS: [u32; 8] = [0, 3, 3, 2, 0, 1, 3, 1];
    let mut at = 0;
    (0..).map_while(move |nth| {
        let offset = at;
        at = offset + 512 * (1 + 37 * nth % 50);
        let kind = *KINDS.get(nth as usize % KINDS.len())?;
        (offset < size + 65_536).then_some((offset, at - offset, kind))
    })
}

/// What has been added to a list, from the offset on that was asked for; for the trace.
struct Added {
    from: u64,
    list: Vec<u8>,
}

impl Added {
    fn new(from: u64) -> Added {
        Added { from, list: Vec::new() }
    }

    fn note(&mut self, offset: u64, length: u64, kind: u32) {
        let length = (offset + length).saturating_sub(self.from.max(offset));
        if length > 0 && self.list.len() < MOST_EXTENTS * EXTENT_SIZE {
            self.list.extend(Extent { length, kind }.to_bytes());
        }
    }

    fn write(&self) {
        let Some(layer) = wrapped().map(|wrapped| &wrapped.layer).filter(|layer| layer.digests) else {
            return;
        };
        layer
            .writer
            .note(side_effects::probe(layer, Probe::Added), &[(Field::Extents, self.list.as_slice())]);
    }
}

/// Lists of extents that the server cannot use: offsets and lengths.
fn wrong_extents(extents: Wrong, offset: u64) -> Option<Vec<(u64, u64)>> {
    match extents {
        Wrong::Natural | Wrong::Whole => None,
        Wrong::Empty => Some(Vec::new()),
        Wrong::Unordered => Some(vec![(offset + 8192, 4096), (offset, 4096)]),
        Wrong::Gap => Some(vec![(offset, 4096), (offset + 8192, 4096)]),
    }
}

unsafe extern "C" fn cache(_handle: Handle, count: Count, offset: Offset, _flags: Flags) -> c_int {
    touching(Callback::Cache, (count, offset), |_| 0)
}
