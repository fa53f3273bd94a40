//! How much memory the server has allocated, as its allocator says.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use crate::server::function;
use crate::symbols::symbol;

/// Asks jemalloc for one of its numbers, or has it do something: name, old value, its size, new value, its size.
type Mallctl = unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *const c_void, usize) -> c_int;
type Mallinfo2 = unsafe extern "C" fn() -> libc::mallinfo2;

/// Returns the bytes in use: by jemalloc where the server is linked with it (Debian's 3.0 and later), else by the C library, which
/// tells since glibc 2.33.
pub(super) fn allocated() -> Option<u64> {
    by_jemalloc().or_else(by_c_library)
}

fn by_jemalloc() -> Option<u64> {
    let found = symbol(c"mallctl")?;
    // SAFETY: jemalloc's function of this name has this type in every version.
    let control = unsafe { function::<Mallctl>(found.addr()) }?;
    // SAFETY: jemalloc(3), `thread.tcache.flush`: no value is read or written. What the thread keeps of freed memory is no longer in use.
    unsafe { control(c"thread.tcache.flush".as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null(), 0) };
    let now: u64 = 1;
    // SAFETY: jemalloc(3), `epoch`: an uint64_t that is written brings the numbers up to date.
    let refreshed = unsafe {
        let new = ptr::from_ref(&now).cast();
        control(c"epoch".as_ptr(), ptr::null_mut(), ptr::null_mut(), new, size_of::<u64>())
    };
    let (mut bytes, mut size) = (0_usize, size_of::<usize>());
    let name: &CStr = c"stats.allocated";
    // SAFETY: jemalloc(3), `stats.allocated`: a size_t is read, where statistics are built in.
    let told = unsafe { control(name.as_ptr(), ptr::from_mut(&mut bytes).cast(), &mut size, ptr::null(), 0) };
    (refreshed == 0 && told == 0).then_some(bytes as u64)
}

fn by_c_library() -> Option<u64> {
    let found = symbol(c"mallinfo2")?;
    // SAFETY: the C library's function of this name has this type.
    let tell = unsafe { function::<Mallinfo2>(found.addr()) }?;
    // SAFETY: it takes nothing, and looks at the C library's own data.
    let info = unsafe { tell() };
    Some((info.uordblks + info.hblkhd) as u64)
}
