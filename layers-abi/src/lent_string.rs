//! A string of the server whose lifetime is promised, with a copy to hold it to the promise.

use std::ffi::{CStr, c_char};

/// A pointer and what it read as when it was kept.
#[derive(Debug)]
pub struct LentString {
    pointer: *const c_char,
    copy: Box<[u8]>,
}

// SAFETY: the string is only read, and the server promises that nobody changes it.
unsafe impl Send for LentString {}
// SAFETY: as above.
unsafe impl Sync for LentString {}

impl LentString {
    /// Copies the string; `None` for NULL.
    ///
    /// # Safety
    ///
    /// `pointer` is NULL or a C string.
    pub unsafe fn new(pointer: *const c_char) -> Option<LentString> {
        if pointer.is_null() {
            return None;
        }
        // SAFETY: not NULL, hence a C string.
        let copy = unsafe { CStr::from_ptr(pointer) }.to_bytes_with_nul().into();
        Some(LentString { pointer, copy })
    }

    /// The memory still reads as it did.
    ///
    /// # Safety
    ///
    /// The memory is still promised to be there. Whether it is, is what this finds out: a server that broke the
    /// promise may crash here, which is its fault and is recorded as its crash.
    pub unsafe fn is_unchanged(&self) -> bool {
        // SAFETY: as many bytes as were copied; see above.
        unsafe { libc::memcmp(self.pointer.cast(), self.copy.as_ptr().cast(), self.copy.len()) == 0 }
    }

    /// `pointer` reads the same as the copy.
    ///
    /// # Safety
    ///
    /// `pointer` is NULL or a C string.
    pub unsafe fn reads_like(&self, pointer: *const c_char) -> bool {
        // SAFETY: not NULL, hence a C string.
        !pointer.is_null() && unsafe { CStr::from_ptr(pointer) }.to_bytes_with_nul() == &*self.copy
    }

    /// The copy, without its end.
    pub fn bytes(&self) -> &[u8] {
        self.copy.strip_suffix(&[0]).unwrap_or(&self.copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noticed() {
        let mut memory = *b"size\0";
        // SAFETY: `memory` is a C string and outlives every use of the pointer.
        unsafe {
            let pointer = (&raw mut memory).cast::<c_char>();
            let kept = LentString::new(pointer).unwrap();
            assert!(kept.is_unchanged());
            assert!(kept.reads_like(c"size".as_ptr()));
            assert!(!kept.reads_like(std::ptr::null()));
            assert_eq!(kept.bytes(), b"size");
            pointer.write(b'S' as c_char);
            assert!(!kept.is_unchanged());
            assert!(LentString::new(std::ptr::null()).is_none());
        }
    }
}
