//! Looking at memory that may not be there, and at what the executable consists of.

use std::mem::MaybeUninit;
use std::ops::Range;

/// Reads bytes of this process; `None` where there are none. A system call, and never a fault.
pub(crate) fn read<T: Copy>(address: usize) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    read_into(address, value.as_mut_ptr().cast(), size_of::<T>()).then(|| {
        // SAFETY: all bytes were written; callers ask for integers and arrays of integers only.
        unsafe { value.assume_init() }
    })
}

fn read_into(address: usize, to: *mut libc::c_void, length: usize) -> bool {
    let local = libc::iovec { iov_base: to, iov_len: length };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length };
    // SAFETY: `to` has room for `length` bytes; the kernel checks the other address.
    let count = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    count == length as isize
}

/// The C string at this address, if there is a printable one of at most `most` bytes.
pub(crate) fn text(address: usize, most: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < most {
        match read::<u8>(address.checked_add(text.len())?)? {
            0 => return Some(text),
            byte if byte.is_ascii_graphic() || byte == b' ' => text.push(byte),
            _ => return None,
        }
    }
    None
}

/// Where the executable lies in memory.
#[derive(Debug, Default)]
pub(crate) struct Image {
    text: Vec<Range<usize>>,
    /// Writable parts of the file.
    pub(crate) data: Vec<Range<usize>>,
}

impl Image {
    /// Of the file that this address belongs to. (The kernel's idea of the executable may be the dynamic linker, if a user
    /// has run that.)
    pub(crate) fn around(address: usize) -> Image {
        let mut image = Image::default();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mappings: Vec<Mapping> = maps.lines().filter_map(Mapping::of).collect();
        let file = mappings.iter().find(|one| one.range.contains(&address)).map(|one| one.file);
        for mapping in mappings.iter().filter(|one| Some(one.file) == file) {
            if mapping.access.contains('x') {
                image.text.push(mapping.range.clone());
            } else if mapping.access.contains('w') {
                image.data.push(mapping.range.clone());
            }
        }
        image
    }

    /// A function of the executable may begin here.
    pub(crate) fn is_text(&self, address: usize) -> bool {
        self.text.iter().any(|range| range.contains(&address))
    }
}

/// A line of the kernel's list.
struct Mapping<'a> {
    range: Range<usize>,
    access: &'a str,
    file: &'a str,
}

impl<'a> Mapping<'a> {
    fn of(line: &'a str) -> Option<Mapping<'a>> {
        let mut words = line.split_ascii_whitespace();
        let (range, access) = (parsed(words.next()?)?, words.next()?);
        Some(Mapping { range, access, file: words.nth(3)? })
    }
}

fn parsed(range: &str) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// The word at this address.
pub(crate) fn word(address: usize) -> Option<usize> {
    read::<usize>(address)
}
