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
    /// Writable parts of the file.
    pub(crate) data: Vec<Range<usize>>,
}

impl Image {
    /// Of the file that this address belongs to. (The kernel's idea of the executable may be the dynamic linker, if a user
    /// has run that.)
    pub(crate) fn around(address: usize) -> Image {
        let mut image = Image::default();
        let maps = maps();
        let mappings: Vec<Mapping> = maps.lines().filter_map(Mapping::of).collect();
        let file = mappings.iter().find(|one| one.range.contains(&address)).map(|one| one.file);
        let of_file = mappings.iter().filter(|one| Some(one.file) == file && one.is_data());
        image.data.extend(of_file.map(|one| one.range.clone()));
        image
    }
}

/// Memory that can be executed, of the executable and of every library and module that is loaded now.
#[derive(Debug)]
pub(crate) struct Code(Vec<Range<usize>>);

impl Code {
    /// As it is now.
    pub(crate) fn now() -> Code {
        let maps = maps();
        let code = maps.lines().filter_map(Mapping::of).filter(|one| one.access.contains('x'));
        Code(code.map(|one| one.range).collect())
    }

    /// A function may begin here.
    pub(crate) fn has(&self, address: usize) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// A function may begin here, or there is none.
    pub(crate) fn has_or_null(&self, address: usize) -> bool {
        address == 0 || self.has(address)
    }
}

/// Memory that is written to and can hold what is allocated or belongs to a module: all but stacks, memory that is shared,
/// and our own.
pub(crate) fn writable() -> Vec<Range<usize>> {
    let maps = maps();
    let data = maps.lines().filter_map(Mapping::of).filter(|one| one.is_data());
    let of_others = data.filter(|one| !one.access.contains('s') && !one.file.starts_with("[stack"));
    of_others.map(|one| one.range).collect()
}

/// Calls back with the words of a stretch of memory, and the address of the first of them, piece by piece. Memory that was
/// never touched is not looked at: it holds nothing.
pub(crate) fn words(range: &Range<usize>, mut look: impl FnMut(usize, &[usize])) {
    const PIECE: usize = 1 << 16;
    let mut buffer = vec![0_usize; PIECE / 8];
    let mut at = range.start;
    while at < range.end {
        let length = PIECE.min(range.end - at);
        if is_touched(at, length) && read_into(at, buffer.as_mut_ptr().cast(), length) {
            look(at, buffer.get(..length / 8).unwrap_or_default());
        }
        at += length;
    }
}

/// Some page of it is in memory, or has been swapped out (proc(5), /proc/pid/pagemap).
fn is_touched(address: usize, length: usize) -> bool {
    use std::os::unix::fs::FileExt;
    use std::sync::OnceLock;
    static PAGES: OnceLock<Option<std::fs::File>> = OnceLock::new();
    let Some(pages) = PAGES.get_or_init(|| std::fs::File::open("/proc/self/pagemap").ok()) else {
        return true;
    };
    const PAGE: usize = 4096;
    let mut entries = vec![0_u8; 8 * length.div_ceil(PAGE)];
    let read = pages.read_at(&mut entries, (address / PAGE * 8) as u64);
    let known = read.is_ok_and(|count| count == entries.len());
    !known || entries.chunks_exact(8).any(|entry| entry.last().is_some_and(|high| high & 0xc0 != 0))
}

fn maps() -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default()
}

/// A line of the kernel's list.
struct Mapping<'a> {
    range: Range<usize>,
    access: &'a str,
    /// Nothing where no file is mapped.
    file: &'a str,
}

impl Mapping<'_> {
    fn is_data(&self) -> bool {
        self.access.contains('w') && !self.access.contains('x')
    }
}

impl<'a> Mapping<'a> {
    fn of(line: &'a str) -> Option<Mapping<'a>> {
        let mut words = line.split_ascii_whitespace();
        let (range, access) = (parsed(words.next()?)?, words.next()?);
        Some(Mapping { range, access, file: words.nth(3).unwrap_or_default() })
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
