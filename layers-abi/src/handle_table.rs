//! Boxed handles: which `open` a handle came from.
//!
//! Handles are not unique (NBDKIT_HANDLE_NOT_NEEDED is `&errno`; freed ones are used again), so the server gets the
//! address of a box with a minted id instead, and the target gets back what it had returned.
//!
//! All boxes of an image lie in one reserved range. A pointer from the server is looked up by its address alone, so
//! that a wrong one is never followed, and a box keeps its contents after `close` until it is needed again: a call
//! with a closed handle is still attributed to the right `open`.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use layers_trace::event::{HANDLE_FOREIGN, HANDLE_NULL};

use crate::lent_string::LentString;

/// Handles open at once in one image; more get through unboxed, recorded as foreign.
const MOST: usize = 1 << 20;
/// Closed boxes that stay recognisable before the oldest of them is used again.
const REMEMBERED: usize = 1 << 12;

/// One handle of one layer. Zero memory is a box that was never used.
#[repr(C, align(32))]
struct HandleBox {
    /// What the target's `open` returned.
    real: AtomicPtr<c_void>,
    /// What to look at again when the handle is closed; NULL when it is closed.
    notes: AtomicPtr<Notes>,
    /// Minted; 0 while the box was never used.
    id: AtomicU32,
    layer: AtomicU32,
}

const _: () = assert!(size_of::<HandleBox>() == 32);

/// What an instrument noted in `open`, to look at again in `close`.
#[derive(Debug, Default)]
pub struct Notes {
    /// Plugin: `nbdkit_export_name`.
    pub export_name: Option<LentString>,
    /// Reference plugin: a string interned in this connection.
    pub interned: Option<LentString>,
    /// Filter: its own context and what `nbdkit_context_get_backend` said of it.
    pub backend: Option<(usize, usize)>,
}

/// A handle as the trace and as the target know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unboxed {
    /// Minted id, [`HANDLE_NULL`] or [`HANDLE_FOREIGN`].
    pub id: u32,
    /// What the target gets.
    pub real: *mut c_void,
}

/// The boxes of one image.
#[derive(Debug)]
pub struct Boxes {
    base: NonNull<HandleBox>,
    unused: Mutex<Unused>,
}

#[derive(Debug, Default)]
struct Unused {
    /// Boxes from here on were never used.
    fresh: usize,
    /// Closed ones, oldest first.
    closed: VecDeque<usize>,
}

// SAFETY: the boxes consist of atomics.
unsafe impl Send for Boxes {}
// SAFETY: as above.
unsafe impl Sync for Boxes {}

impl Boxes {
    /// Reserves the range. It is never given back: the server may hold handles for as long as it lives.
    pub fn reserve() -> io::Result<Boxes> {
        // SAFETY: a new private mapping, placed by the kernel.
        let base = unsafe {
            libc::mmap(
                null_mut(),
                MOST * size_of::<HandleBox>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        match NonNull::new(base.cast::<HandleBox>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => {
                Ok(Boxes { base, unused: Mutex::default() })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Puts what a target's `open` returned into a box; the server gets the address of the box.
    ///
    /// With every box in use, it gets `real` itself.
    pub fn put(&self, layer: u8, id: u32, real: *mut c_void, notes: Notes) -> *mut c_void {
        let Some(index) = self.unused.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return real;
        };
        let Some(slot) = self.slot(index) else { return real };
        slot.real.store(real, Ordering::Relaxed);
        slot.notes.store(Box::into_raw(Box::new(notes)), Ordering::Relaxed);
        slot.layer.store(u32::from(layer), Ordering::Relaxed);
        slot.id.store(id, Ordering::Release);
        std::ptr::from_ref(slot).cast_mut().cast()
    }

    /// Looks a handle up that a callback of `layer` got.
    pub fn find(&self, layer: u8, pointer: *mut c_void) -> Unboxed {
        if pointer.is_null() {
            return Unboxed { id: HANDLE_NULL, real: pointer };
        }
        match self.index(pointer).and_then(|index| self.slot(index)) {
            Some(slot) if slot.layer.load(Ordering::Relaxed) == u32::from(layer) => {
                match slot.id.load(Ordering::Acquire) {
                    0 => Unboxed { id: HANDLE_FOREIGN, real: pointer },
                    id => Unboxed { id, real: slot.real.load(Ordering::Relaxed) },
                }
            }
            _ => Unboxed { id: HANDLE_FOREIGN, real: pointer },
        }
    }

    /// Takes the notes out of a box: at the start of `close`, and only once.
    pub fn take_notes(&self, layer: u8, pointer: *mut c_void) -> Option<Notes> {
        let slot = self.slot(self.index(pointer)?)?;
        if slot.layer.load(Ordering::Relaxed) != u32::from(layer) {
            return None;
        }
        let notes = NonNull::new(slot.notes.swap(null_mut(), Ordering::AcqRel))?;
        // SAFETY: `put` leaked it, and the swap makes this the only taker.
        Some(*unsafe { Box::from_raw(notes.as_ptr()) })
    }

    /// The box may be used again, for whoever has taken the notes: at the end of `close`.
    pub fn release(&self, pointer: *mut c_void) {
        if let Some(index) = self.index(pointer) {
            self.unused.lock().unwrap_or_else(PoisonError::into_inner).closed.push_back(index);
        }
    }

    fn index(&self, pointer: *mut c_void) -> Option<usize> {
        let offset = pointer.addr().checked_sub(self.base.as_ptr().addr())?;
        let index = offset / size_of::<HandleBox>();
        (offset % size_of::<HandleBox>() == 0 && index < MOST).then_some(index)
    }

    fn slot(&self, index: usize) -> Option<&HandleBox> {
        // SAFETY: the index is inside the reserved range, which is zero or initialised and is never unmapped.
        (index < MOST).then(|| unsafe { self.base.add(index).as_ref() })
    }
}

impl Unused {
    fn take(&mut self) -> Option<usize> {
        if self.closed.len() > REMEMBERED || self.fresh >= MOST {
            return self.closed.pop_front();
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: *mut c_void = 0x1000 as *mut c_void;

    #[test]
    fn equal_handles_get_different_ids() {
        let boxes = Boxes::reserve().unwrap();
        let (first, second) =
            (boxes.put(1, 7, REAL, Notes::default()), boxes.put(1, 8, REAL, Notes::default()));
        assert_ne!(first, second);
        assert_eq!(boxes.find(1, first), Unboxed { id: 7, real: REAL });
        assert_eq!(boxes.find(1, second), Unboxed { id: 8, real: REAL });
    }

    #[test]
    fn a_wrong_handle_is_passed_on_as_it_is() {
        let boxes = Boxes::reserve().unwrap();
        let handle = boxes.put(1, 7, REAL, Notes::default());
        let foreign = |pointer| Unboxed { id: HANDLE_FOREIGN, real: pointer };
        let never = handle.wrapping_byte_add(32);
        let inside = handle.wrapping_byte_add(8);
        for (layer, pointer) in
            [(2, handle), (1, REAL), (1, never), (1, inside), (1, usize::MAX as *mut c_void)]
        {
            assert_eq!(boxes.find(layer, pointer), foreign(pointer));
        }
        assert_eq!(boxes.find(1, null_mut()), Unboxed { id: HANDLE_NULL, real: null_mut() });
        assert!(boxes.take_notes(2, handle).is_none());
    }

    #[test]
    fn a_closed_handle_is_remembered_and_closed_once() {
        let boxes = Boxes::reserve().unwrap();
        let handle = boxes.put(1, 7, REAL, Notes::default());
        assert!(boxes.take_notes(1, handle).is_some());
        boxes.release(handle);
        assert!(boxes.take_notes(1, handle).is_none());
        assert_ne!(boxes.put(1, 8, REAL, Notes::default()), handle);
        assert_eq!(boxes.find(1, handle).id, 7);
    }

    #[test]
    fn boxes_are_used_again_in_the_end() {
        let boxes = Boxes::reserve().unwrap();
        for id in 1..4 * REMEMBERED as u32 {
            let handle = boxes.put(1, id, REAL, Notes::default());
            assert_eq!(boxes.find(1, handle).id, id);
            boxes.take_notes(1, handle);
            boxes.release(handle);
        }
        assert!(boxes.unused.lock().unwrap().fresh <= REMEMBERED + 1);
    }
}
