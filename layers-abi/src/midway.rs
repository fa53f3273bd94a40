//! Pauses in the middle of a call: where the target copies, allocates, locks, or asks the system for something.
//!
//! For those functions of the C library the target gets others, which do the same and may pause besides. They are put into
//! the table through which the target's own image calls them, and into no other. Only where calls are to pause
//! ([`crate::pauses`]) is anything put there.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::errno;
use crate::pauses::Pauses;

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
    ($($place:ident $name:ident($($argument:ident),*);)*) => {
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
                // pointers or integers.
                let result = unsafe {
                    let original: unsafe extern "C" fn($(functions!(@word $argument)),*) -> usize =
                        std::mem::transmute(original);
                    original($($argument),*)
                };
                functions!(@after $place);
                result
            })*
        }

        /// What stands in the place of the function of this name; keeps that one.
        fn replacement(name: &CStr, original: usize) -> Option<usize> {
            let (kept, replacement): (&AtomicUsize, *const ()) = match name.to_bytes() {
                $(name if name == stringify!($name).as_bytes() => {
                    (&originals::$name, replacements::$name as *const ())
                })*
                _ => return None,
            };
            let _ = kept.compare_exchange(0, original, Ordering::Relaxed, Ordering::Relaxed);
            Some(replacement.expose_provenance())
        }
    };
    (@word $argument:ident) => { usize };
    (@before before) => { midway() };
    (@before after) => {};
    (@after before) => {};
    (@after after) => { midway() };
}

functions! {
    before pthread_mutex_lock(mutex);
    before pthread_rwlock_rdlock(lock);
    before pthread_rwlock_wrlock(lock);
    after pthread_mutex_unlock(mutex);
    after pthread_rwlock_unlock(lock);
    after memcpy(to, from, count);
    after memmove(to, from, count);
    after memset(to, byte, count);
    after __memcpy_chk(to, from, count, room);
    after malloc(count);
    after calloc(times, count);
    after realloc(memory, count);
    after free(memory);
    after open(path, flags, mode);
    after open64(path, flags, mode);
    after close(descriptor);
    after lseek(descriptor, offset, from);
    after lseek64(descriptor, offset, from);
    after read(descriptor, buffer, count);
    after write(descriptor, buffer, count);
    after pread(descriptor, buffer, count, offset);
    after pread64(descriptor, buffer, count, offset);
    after pwrite(descriptor, buffer, count, offset);
    after pwrite64(descriptor, buffer, count, offset);
    after fread(buffer, size, count, file);
    after fwrite(buffer, size, count, file);
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

/// Has the image that this address is in call our functions in place of the C library's.
///
/// # Safety
///
/// The image is loaded with all its functions bound, none of its code runs yet, and it stays as long as its code does.
pub(crate) unsafe fn put_into(address: *const c_void) {
    if !cfg!(target_pointer_width = "64") {
        return;
    }
    let mut search = Search { address: address.addr(), base: 0, dynamic: null() };
    // SAFETY: `find` is called with the pointer that is given here, while this call lasts.
    unsafe { libc::dl_iterate_phdr(Some(find), (&raw mut search).cast()) };
    if !search.dynamic.is_null() {
        // SAFETY: the dynamic section of a loaded image.
        unsafe { replace(&search) };
    }
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
unsafe fn replace(image: &Search) {
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
        return;
    }
    let (Some(strings), Some(symbols)) = (value(STRINGS), value(SYMBOLS)) else { return };
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
