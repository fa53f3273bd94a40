//! The arguments and results of callbacks, and what each of them puts into the trace.
//!
//! Every type here is a `repr(transparent)` wrapper round the C type, so that one macro can write the trampoline of
//! any callback from its signature: each argument knows which field of the record it is
//! (the table on [`layers_trace::Event`] lists them).

use std::ffi::{CStr, c_char, c_int, c_void};

use layers_trace::digest::MOST_EXTENTS;
use layers_trace::event::ERR_WAS_NULL;
use layers_trace::record::Record;
use layers_trace::{Callback, Field, digest};

use crate::call::Call;
use crate::lent::Lent;

pub use crate::outcome::Outcome;
pub use crate::pointers::{Backend, Buffer, Context, Exports, Extents, Next};

/// An argument of a callback.
pub trait Argument: Copy {
    /// Notes the argument in the record of the enter, and gives what the target is to get.
    ///
    /// # Safety
    ///
    /// `self` is the argument that the server passed in the call that is being recorded.
    unsafe fn enter(self, call: &mut Call<'_>) -> Self;

    /// Gives what the target is to get instead, once all arguments have been noted.
    ///
    /// # Safety
    ///
    /// As for `enter`.
    unsafe fn lend(self, _call: &mut Call<'_>) -> Self {
        self
    }

    /// Notes in the record of the exit what the target left behind the argument.
    ///
    /// # Safety
    ///
    /// As for `enter`; the target has returned.
    unsafe fn exit(self, _call: &mut Call<'_>) {}
}

/// The text behind a pointer, for as long as the call lasts.
///
/// # Safety
///
/// `pointer` is NULL or a C string that lives as long as `'a`.
pub unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL, hence a C string.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident($inner:ty) |$value:ident, $record:ident| $note:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl Argument for $name {
            unsafe fn enter(self, call: &mut Call<'_>) -> Self {
                let $value = self.0;
                let $record: &mut Record = &mut call.enter;
                $note;
                self
            }
        }
    )*};
}

macro_rules! contexts {
    ($($name:ident)*) => {$(
        impl Argument for $name {
            unsafe fn enter(self, call: &mut Call<'_>) -> Self {
                call.enter.context = self.0.addr() as u64;
                self
            }
        }
    )*};
}

contexts! { Backend Context Next }

arguments! {
    /// `int readonly`
    ReadOnly(c_int) |readonly, record| record.d = readonly.cast_unsigned();
    /// `int is_tls`
    IsTls(c_int) |is_tls, record| record.c = is_tls.cast_unsigned();
    /// `int thread_model`, final or of the layer below.
    ThreadModel(c_int) |model, record| record.a = i64::from(model).cast_unsigned();
    /// `uint32_t count`
    Count(u32) |count, record| record.c = count;
    /// `uint64_t offset`
    Offset(u64) |offset, record| record.a = offset;
    /// `uint32_t flags`
    Flags(u32) |flags, record| record.d = flags;
    /// `int may_trim` of API version 1, which is the flag NBDKIT_FLAG_MAY_TRIM of version 2.
    MayTrim(c_int) |may_trim, record| record.d = u32::from(may_trim != 0);
}

impl Argument for Buffer {
    unsafe fn enter(self, call: &mut Call<'_>) -> Self {
        call.enter.b = self.0.addr() as u64;
        call.buffer = self;
        self
    }

    unsafe fn lend(self, call: &mut Call<'_>) -> Self {
        let count = call.enter.c as usize;
        if !call.lends() || self.0.is_null() || count == 0 {
            return self;
        }
        let lends = call.layer.lends;
        call.lent = match is_write(call) {
            // SAFETY: the buffer of a write, with as many bytes as the call is for.
            true => Lent::copy_of(lends, unsafe { std::slice::from_raw_parts(self.0.cast(), count) }),
            false => Lent::to_read_into(lends, count),
        };
        call.lent.as_mut().map_or(self, |lent| Buffer(lent.pointer().cast()))
    }

    unsafe fn exit(self, call: &mut Call<'_>) {
        if let Some(lent) = call.lent.take() {
            let count = call.enter.c as usize;
            let start = self.0.cast::<u8>();
            let seen = match (is_write(call), call.failed) {
                // SAFETY: as above; the caller has not had it back yet.
                (true, _) => unsafe { lent.was_written_from(std::slice::from_raw_parts(start, count)) },
                // SAFETY: as above, for a read.
                (false, false) => unsafe { lent.was_read_into(std::slice::from_raw_parts_mut(start, count)) },
                (false, true) => lent.was_of_no_use(),
            };
            call.probe_lent(seen, is_write(call) || !call.failed);
        }
        let reads = matches!(call.callback(), Callback::Pread | Callback::PreadV1);
        if reads && call.layer.digests && !call.failed {
            // SAFETY: the buffer of a read that has filled it.
            call.exit.b = unsafe { self.digest(call.enter.c) };
        }
    }
}

fn is_write(call: &Call<'_>) -> bool {
    matches!(call.callback(), Callback::Pwrite | Callback::PwriteV1)
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub Option<$inner>);

        impl Argument for $name {
            unsafe fn enter(self, _call: &mut Call<'_>) -> Self {
                self
            }
        }
    )*};
}

functions! {
    /// `nbdkit_next_config *`
    NextConfig(unsafe extern "C" fn(Backend, Key, Value) -> c_int);
    /// `nbdkit_next_config_complete *`
    NextConfigComplete(unsafe extern "C" fn(Backend) -> c_int);
    /// `nbdkit_next_preconnect *`
    NextPreconnect(unsafe extern "C" fn(Backend, ReadOnly) -> c_int);
    /// `nbdkit_next_list_exports *`
    NextListExports(unsafe extern "C" fn(Backend, ReadOnly, Exports) -> c_int);
    /// `nbdkit_next_default_export *`
    NextDefaultExport(unsafe extern "C" fn(Backend, ReadOnly) -> ExportNameResult);
    /// `nbdkit_next_open *`
    NextOpen(unsafe extern "C" fn(Context, ReadOnly, ExportName) -> c_int);
}

/// `void *handle`: a box on the server's side, what `open` returned on the target's.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Handle(pub *mut c_void);

impl Argument for Handle {
    unsafe fn enter(self, call: &mut Call<'_>) -> Self {
        let unboxed = call.layer.boxes.find(call.layer.number, self.0);
        call.enter.handle = unboxed.id;
        Handle(unboxed.real)
    }
}

macro_rules! strings {
    ($($(#[$doc:meta])* $name:ident $field:ident $keep:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub *const c_char);

        impl Argument for $name {
            unsafe fn enter(self, call: &mut Call<'_>) -> Self {
                // SAFETY: the server passes NULL or a C string, which is there until the call ends.
                call.texts.extend(unsafe { text(self.0) }.map(|bytes| (Field::$field, bytes)));
                if $keep {
                    // SAFETY: as above.
                    unsafe { call.layer.keep_parameter(self.0) };
                }
                self
            }
        }
    )*};
}

strings! {
    /// Key of a parameter, promised to stay (nbdkit-plugin(3), `.config`).
    Key Key true;
    /// Value of a parameter, likewise.
    Value Value true;
    /// Name of an export in a filter's `open`.
    ExportName Export false;
}

/// `int *err`
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ErrorPointer(pub *mut c_int);

impl Argument for ErrorPointer {
    unsafe fn enter(self, _call: &mut Call<'_>) -> Self {
        self
    }

    unsafe fn exit(self, call: &mut Call<'_>) {
        call.exit.d = match self.0.is_null() {
            true => ERR_WAS_NULL,
            // SAFETY: a pointer that is not NULL is one to the caller's int.
            false => unsafe { *self.0 }.cast_unsigned(),
        };
    }
}

impl Argument for Extents {
    unsafe fn enter(self, call: &mut Call<'_>) -> Self {
        call.enter.b = self.0.addr() as u64;
        self
    }

    unsafe fn exit(self, call: &mut Call<'_>) {
        if self.0.is_null() {
            return;
        }
        let lists = call.layer.lists;
        // SAFETY: the server's list, which the call has been filling.
        let count = unsafe { (lists.extents_count)(self) };
        call.exit.b = count as u64;
        if call.layer.digests && !call.failed {
            // SAFETY: as above; indexes are below the count.
            call.extents.extend((0..count.min(MOST_EXTENTS)).flat_map(|index| unsafe {
                let extent = (lists.extent)(self, index);
                digest::Extent { length: extent.length, kind: extent.kind }.to_bytes()
            }));
        }
    }
}

/// Most exports whose names are recorded when `list_exports` returns.
const MOST_EXPORTS: usize = 32;

impl Argument for Exports {
    unsafe fn enter(self, _call: &mut Call<'_>) -> Self {
        self
    }

    unsafe fn exit(self, call: &mut Call<'_>) {
        if self.0.is_null() {
            return;
        }
        let lists = call.layer.lists;
        // SAFETY: the server's list, which the call has been filling; indexes are below its count, and the strings
        // belong to the list.
        unsafe {
            let count = (lists.exports_count)(self);
            call.exit.b = count as u64;
            for index in 0..count.min(MOST_EXPORTS) {
                let export = (lists.export)(self, index);
                call.texts.extend(text(export.name).map(|bytes| (Field::Export, bytes)));
                call.texts.extend(text(export.description).map(|bytes| (Field::Description, bytes)));
            }
        }
    }
}

macro_rules! sizes {
    ($($(#[$doc:meta])* $name:ident |$value:ident, $record:ident| $note:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub *mut u32);

        impl Argument for $name {
            unsafe fn enter(self, _call: &mut Call<'_>) -> Self {
                self
            }

            unsafe fn exit(self, call: &mut Call<'_>) {
                // After a failure the target need not have written to it.
                if !call.failed && !self.0.is_null() {
                    // SAFETY: the caller's variable, which a successful call has set.
                    let $value = unsafe { *self.0 };
                    let $record = &mut call.exit;
                    $note;
                }
            }
        }
    )*};
}

sizes! {
    /// `uint32_t *minimum`
    Minimum |minimum, record| record.b |= u64::from(minimum);
    /// `uint32_t *preferred`
    Preferred |preferred, record| record.b |= u64::from(preferred) << 32;
    /// `uint32_t *maximum`
    Maximum |maximum, record| record.d = maximum;
}

impl Outcome for () {
    const FAILED: () = ();

    fn is_failure(self) -> bool {
        false
    }

    unsafe fn note(self, _call: &mut Call<'_>) {}
}

impl Outcome for c_int {
    const FAILED: c_int = -1;

    fn is_failure(self) -> bool {
        self == -1
    }

    unsafe fn note(self, call: &mut Call<'_>) {
        call.exit.a = i64::from(self).cast_unsigned();
    }
}

impl Outcome for i64 {
    const FAILED: i64 = -1;

    fn is_failure(self) -> bool {
        self == -1
    }

    unsafe fn note(self, call: &mut Call<'_>) {
        call.exit.a = self.cast_unsigned();
    }
}

macro_rules! string_results {
    ($($(#[$doc:meta])* $name:ident $field:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub *const c_char);

        impl Outcome for $name {
            const FAILED: $name = $name(std::ptr::null());

            fn is_failure(self) -> bool {
                self.0.is_null()
            }

            unsafe fn note(self, call: &mut Call<'_>) {
                call.exit.a = u64::from(!self.0.is_null());
                // SAFETY: NULL or a C string, which the target keeps at least until the server has copied it.
                call.texts.extend(unsafe { text(self.0) }.map(|bytes| (Field::$field, bytes)));
            }
        }
    )*};
}

string_results! {
    /// What `default_export` returns.
    ExportNameResult Export;
    /// What `export_description` returns.
    DescriptionResult Description;
}

impl Outcome for Handle {
    const FAILED: Handle = Handle(std::ptr::null_mut());

    fn is_failure(self) -> bool {
        self.0.is_null()
    }

    unsafe fn note(self, call: &mut Call<'_>) {
        call.exit.a = u64::from(!self.0.is_null());
    }
}
