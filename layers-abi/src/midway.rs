//! In the middle of a call: where the target copies, allocates, locks, or asks the system for something.
//!
//! For those functions of the C library, and for one of nbdkit, the target gets others, which do the same, and may pause
//! ([`crate::pauses`]), look at what is done, or have it fail ([`crate::system`]). They are put into the table through which
//! the target's own image calls them, and into no other; and only those that are needed for what is asked for.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use layers_behaviour::Refused;

use crate::pauses::Pauses;
use crate::{conditions, errno, system};

thread_local! {
    static INSIDE: Cell<Inside> = const { Cell::new(Inside { pauses: null(), at: [0; 2], seen: 0 }) };
}

/// The call that this thread is in.
#[derive(Clone, Copy, Debug)]
struct Inside {
    /// Of its layer; NULL outside of calls.
    pauses: *const Pauses,
    /// It pauses in these places, which are counted from 1.
    at: [u32; 2],
    /// So many places it has come to.
    seen: u32,
}

/// What was going on before a call.
#[derive(Clone, Copy, Debug)]
pub struct Outside(Inside);

/// The target is called next, and pauses in these places.
pub(crate) fn enter(pauses: &'static Pauses, at: [u32; 2]) -> Outside {
    Outside(INSIDE.replace(Inside { pauses, at, seen: 0 }))
}

/// The target has returned.
pub(crate) fn leave(outside: Outside) {
    INSIDE.set(outside.0);
}

/// A place where this call may pause.
fn midway() {
    let mut inside = INSIDE.get();
    // SAFETY: NULL, or the pauses of a layer, which are never given back.
    let Some(pauses) = (unsafe { inside.pauses.as_ref() }) else { return };
    inside.seen = inside.seen.saturating_add(1);
    INSIDE.set(inside);
    if inside.at.contains(&inside.seen) {
        let error = errno::get();
        pauses.midway();
        errno::set(error);
    }
}

macro_rules! functions {
    ($($place:ident $deed:ident $name:ident($($argument:ident),*);)*) => {
        mod originals {
            use super::AtomicUsize;

            $(#[allow(non_upper_case_globals, reason = "the names of the functions")]
            pub(super) static $name: AtomicUsize = AtomicUsize::new(0);)*
        }

        mod replacements {
            use super::*;

            $(pub(super) unsafe extern "C" fn $name($($argument: usize),*) -> usize {
                let original = originals::$name.load(Ordering::Relaxed);
                functions!(@before $place);
                // SAFETY: the function that the target would have called, with its own arguments, all of which are
                // pointers or integers; of a count there may be less.
                let result = system::$deed([$($argument),*], |[$($argument),*]| unsafe {
                    let original: unsafe extern "C" fn($(functions!(@word $argument)),*) -> usize =
                        std::mem::transmute(original);
                    original($($argument),*)
                });
                functions!(@after $place);
                result
            })*
        }

        /// What stands in the place of the function of this name; keeps that one.
        fn replacement(name: &CStr, original: usize) -> Option<usize> {
            let (kept, replacement, deed): (&AtomicUsize, *const (), &str) = match name.to_bytes() {
                $(name if name == stringify!($name).as_bytes() => {
                    (&originals::$name, replacements::$name as *const (), stringify!($deed))
                })*
                _ => return None,
            };
            if !is_needed(deed) {
                return None;
            }
            let _ = kept.compare_exchange(0, original, Ordering::Relaxed, Ordering::Relaxed);
            Some(replacement.expose_provenance())
        }
    };
    (@word $argument:ident) => { usize };
    (@before before) => { midway() };
    (@before after) => {};
    (@after before) => {};
    (@after after) => { midway() };
    (@before never) => {};
    (@after never) => {};
}

/// A function that does this is to be replaced, for what is asked for.
fn is_needed(deed: &str) -> bool {
    let failing = conditions::failing().map(|failing| failing.what);
    Pauses::are_asked_for()
        || match deed {
            "plain" => false,
            "allocates" => failing == Some(Refused::Memory),
            "reads" => failing.is_some(),
            _ => conditions::is_watched() || failing.is_some(),
        }
}

functions! {
    before plain pthread_mutex_lock(mutex);
    before plain pthread_rwlock_rdlock(lock);
    before plain pthread_rwlock_wrlock(lock);
    after plain pthread_mutex_unlock(mutex);
    after plain pthread_rwlock_unlock(lock);
    after plain memcpy(to, from, count);
    after plain memmove(to, from, count);
    after plain memset(to, byte, count);
    after plain __memcpy_chk(to, from, count, room);
    after allocates malloc(count);
    after allocates calloc(times, count);
    after allocates realloc(memory, count);
    never allocates reallocarray(memory, times, count);
    never allocates strdup(text);
    never allocates __strdup(text);
    never allocates strndup(text, count);
    never allocates __strndup(text, count);
    never allocates aligned_alloc(alignment, count);
    after plain free(memory);
    after plain open(path, flags, mode);
    after plain open64(path, flags, mode);
    after plain close(descriptor);
    after plain lseek(descriptor, offset, from);
    after plain lseek64(descriptor, offset, from);
    after reads read(descriptor, buffer, count);
    after writes write(descriptor, buffer, count);
    after reads pread(descriptor, buffer, count, offset);
    after reads pread64(descriptor, buffer, count, offset);
    never reads preadv(descriptor, pieces, count, offset);
    never reads preadv64(descriptor, pieces, count, offset);
    never reads readv(descriptor, pieces, count);
    after writes pwrite(descriptor, buffer, count, offset);
    after writes pwrite64(descriptor, buffer, count, offset);
    never writes pwritev(descriptor, pieces, count, offset);
    never writes pwritev64(descriptor, pieces, count, offset);
    never writes writev(descriptor, pieces, count);
    never resizes ftruncate(descriptor, size);
    never resizes ftruncate64(descriptor, size);
    never resizes fallocate(descriptor, mode, offset, count);
    never resizes fallocate64(descriptor, mode, offset, count);
    never syncs fsync(descriptor);
    never syncs fdatasync(descriptor);
    never syncs_some sync_file_range(descriptor, offset, count, flags);
    never syncs_all syncfs(descriptor);
    never syncs_all msync(start, count, flags);
    never syncs_all sync();
    after plain fread(buffer, size, count, file);
    after plain fwrite(buffer, size, count, file);
    never tells nbdkit_set_error(error);
}

/// Relocations that hold the address of a function: of a call through the PLT, and of one without.
#[cfg(target_arch = "x86_64")]
const OF_FUNCTIONS: [u64; 2] = [7, 6];
#[cfg(target_arch = "aarch64")]
const OF_FUNCTIONS: [u64; 2] = [1026, 1025];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_FUNCTIONS: [u64; 2] = [u64::MAX; 2];

/// Elf64_Dyn, Elf64_Rela and Elf64_Sym.
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: usize,
}

#[repr(C)]
struct Relocation {
    offset: usize,
    info: u64,
    addend: i64,
}

#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// Has the image that this address is in call our functions in place of the C library's; says whether it does.
///
/// # Safety
///
/// The image is loaded with all its functions bound, none of its code runs yet, and it stays as long as its code does.
pub(crate) unsafe fn put_into(address: *const c_void) -> bool {
    if !cfg!(target_pointer_width = "64") {
        return false;
    }
    let mut search = Search { address: address.addr(), base: 0, dynamic: null() };
    // SAFETY: `find` is called with the pointer that is given here, while this call lasts.
    unsafe { libc::dl_iterate_phdr(Some(find), (&raw mut search).cast()) };
    // SAFETY: the dynamic section of a loaded image.
    !search.dynamic.is_null() && unsafe { replace(&search) }
}

/// Slots that hold functions of ours, with what they held before.
static EXCHANGED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// The image that is looked for.
struct Search {
    address: usize,
    base: usize,
    dynamic: *const Dynamic,
}

unsafe extern "C" fn find(image: *mut libc::dl_phdr_info, _: libc::size_t, search: *mut c_void) -> c_int {
    // SAFETY: as dl_iterate_phdr(3) calls it; `search` is what `put_into` has given.
    unsafe {
        let (image, search) = (&*image, &mut *search.cast::<Search>());
        let headers = std::slice::from_raw_parts(image.dlpi_phdr, image.dlpi_phnum.into());
        let base = image.dlpi_addr as usize;
        let has = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            header.p_type == libc::PT_LOAD
                && (start..start + header.p_memsz as usize).contains(&search.address)
        };
        if !headers.iter().any(has) {
            return 0;
        }
        if let Some(found) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) {
            search.base = base;
            search.dynamic = std::ptr::with_exposed_provenance(base.wrapping_add(found.p_vaddr as usize));
        }
    }
    1
}

/// # Safety
///
/// The dynamic section is that of a loaded image.
unsafe fn replace(image: &Search) -> bool {
    const PLT_SIZE: i64 = 2;
    const STRINGS: i64 = 5;
    const SYMBOLS: i64 = 6;
    const RELA: i64 = 7;
    const RELA_SIZE: i64 = 8;
    const PLT: i64 = 23;
    const FLAGS_1: i64 = 0x6fff_fffb;
    const NEVER_UNMAPPED: usize = 8;
    let value = |tag: i64| {
        // SAFETY: the section ends with a tag of 0.
        let entries = (0..).map(|nth| unsafe { &*image.dynamic.add(nth) }).take_while(|entry| entry.tag != 0);
        entries.filter(|entry| entry.tag == tag).map(|entry| entry.value).next()
    };
    // An image that is never unmapped, such as one in Go, may have threads that outlive this one.
    if value(FLAGS_1).is_some_and(|flags| flags & NEVER_UNMAPPED != 0) {
        return false;
    }
    let (Some(strings), Some(symbols)) = (value(STRINGS), value(SYMBOLS)) else { return false };
    for (table, size) in [(value(PLT), value(PLT_SIZE)), (value(RELA), value(RELA_SIZE))] {
        let (Some(table), Some(size)) = (table, size) else { continue };
        for nth in 0..size / size_of::<Relocation>() {
            // SAFETY: the tables are mapped, and so long; the dynamic linker has made their addresses absolute.
            unsafe {
                let relocation = &*std::ptr::with_exposed_provenance::<Relocation>(table).add(nth);
                if !OF_FUNCTIONS.contains(&(relocation.info & 0xffff_ffff)) {
                    continue;
                }
                let number = (relocation.info >> 32) as usize;
                let symbol = &*std::ptr::with_exposed_provenance::<Symbol>(symbols).add(number);
                let name = std::ptr::with_exposed_provenance::<c_char>(strings + symbol.name as usize);
                let slot = image.base.wrapping_add(relocation.offset);
                exchange(std::ptr::with_exposed_provenance_mut(slot), CStr::from_ptr(name));
            }
        }
    }
    // Other machines have other numbers for their relocations.
    !OF_FUNCTIONS.contains(&u64::MAX)
}

/// # Safety
///
/// The slot holds the address of the function of this name.
unsafe fn exchange(slot: *mut usize, name: &CStr) {
    const PAGE: usize = 4096;
    // SAFETY: as the caller promises.
    let Some(ours) = replacement(name, unsafe { slot.read() }) else { return };
    let page = slot.map_addr(|address| address / PAGE * PAGE);
    // SAFETY: the slot's own page, which may have become read-only when all was bound.
    unsafe {
        if libc::mprotect(page.cast(), PAGE, libc::PROT_READ | libc::PROT_WRITE) == 0 {
            EXCHANGED.lock().unwrap_or_else(PoisonError::into_inner).push((slot.addr(), slot.read()));
            slot.write(ours);
        }
    }
}

/// Puts everything back, before our functions go: an image may stay longer than this one (one in C++ often does), and calls
/// them when the process ends.
///
/// # Safety
///
/// The images that functions were put into are still loaded.
pub(crate) unsafe fn take_out() {
    for (slot, original) in std::mem::take(&mut *EXCHANGED.lock().unwrap_or_else(PoisonError::into_inner)) {
        // SAFETY: a slot that was written before, and that has been writable since.
        unsafe { std::ptr::with_exposed_provenance_mut::<usize>(slot).write(original) };
    }
}
