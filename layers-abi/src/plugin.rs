//! The callbacks of a plugin and `struct nbdkit_plugin`, which only ever grew at its end.

use std::ffi::{c_char, c_int};

use layers_trace::Callback;

use crate::arguments::{
    Buffer, Count, DescriptionResult, ExportNameResult, Exports, Extents, Flags, Handle, IsTls, Key, Maximum,
    MayTrim, Minimum, Offset, Preferred, ReadOnly, Value,
};

/// Calls `$then!` with every callback of a plugin but `open` and `close`, which an instrument treats by hand:
/// its [`Callback`], its name in the structure, its signature.
#[macro_export]
macro_rules! plugin_callbacks {
    ($then:ident) => {
        $then! {
            Load load() -> ();
            Unload unload() -> ();
            Config config(key: Key, value: Value) -> c_int;
            ConfigComplete config_complete() -> c_int;
            ThreadModel thread_model() -> c_int;
            DumpPlugin dump_plugin() -> ();
            GetReady get_ready() -> c_int;
            AfterFork after_fork() -> c_int;
            Cleanup cleanup() -> ();
            Preconnect preconnect(readonly: ReadOnly) -> c_int;
            ListExports list_exports(readonly: ReadOnly, is_tls: IsTls, exports: Exports) -> c_int;
            DefaultExport default_export(readonly: ReadOnly, is_tls: IsTls) -> ExportNameResult;
            GetSize get_size(handle: Handle) -> i64;
            ExportDescription export_description(handle: Handle) -> DescriptionResult;
            BlockSize block_size(handle: Handle, minimum: Minimum, preferred: Preferred, maximum: Maximum) -> c_int;
            CanWrite can_write(handle: Handle) -> c_int;
            CanFlush can_flush(handle: Handle) -> c_int;
            IsRotational is_rotational(handle: Handle) -> c_int;
            CanTrim can_trim(handle: Handle) -> c_int;
            CanZero can_zero(handle: Handle) -> c_int;
            CanFastZero can_fast_zero(handle: Handle) -> c_int;
            CanExtents can_extents(handle: Handle) -> c_int;
            CanFua can_fua(handle: Handle) -> c_int;
            CanMultiConn can_multi_conn(handle: Handle) -> c_int;
            CanCache can_cache(handle: Handle) -> c_int;
            Pread pread(handle: Handle, buffer: Buffer, count: Count, offset: Offset, flags: Flags) -> c_int;
            Pwrite pwrite(handle: Handle, buffer: Buffer, count: Count, offset: Offset, flags: Flags) -> c_int;
            Flush flush(handle: Handle, flags: Flags) -> c_int;
            Trim trim(handle: Handle, count: Count, offset: Offset, flags: Flags) -> c_int;
            Zero zero(handle: Handle, count: Count, offset: Offset, flags: Flags) -> c_int;
            Extents extents(handle: Handle, count: Count, offset: Offset, flags: Flags, extents: Extents) -> c_int;
            Cache cache(handle: Handle, count: Count, offset: Offset, flags: Flags) -> c_int;
            PreadV1 _pread_v1(handle: Handle, buffer: Buffer, count: Count, offset: Offset) -> c_int;
            PwriteV1 _pwrite_v1(handle: Handle, buffer: Buffer, count: Count, offset: Offset) -> c_int;
            FlushV1 _flush_v1(handle: Handle) -> c_int;
            TrimV1 _trim_v1(handle: Handle, count: Count, offset: Offset) -> c_int;
            ZeroV1 _zero_v1(handle: Handle, count: Count, offset: Offset, may_trim: MayTrim) -> c_int;
        }
    };
}

/// The type of each callback, under its name.
#[allow(non_camel_case_types, missing_docs, reason = "the header's names")]
pub mod function {
    use super::*;

    macro_rules! types {
        ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
            $(pub type $field = Option<unsafe extern "C" fn($($kind),*) -> $result>;)*
        };
    }

    plugin_callbacks!(types);
    pub type open = Option<unsafe extern "C" fn(ReadOnly) -> Handle>;
    pub type close = Option<unsafe extern "C" fn(Handle)>;
}

/// `struct nbdkit_plugin` of API version 2. In a plugin of version 1 the `_v1` fields hold its data callbacks and the
/// present ones are NULL; the server goes by which is not NULL.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header's fields")]
pub struct Plugin {
    pub _struct_size: u64,
    pub _api_version: c_int,
    pub _thread_model: c_int,
    pub name: *const c_char,
    pub longname: *const c_char,
    pub version: *const c_char,
    pub description: *const c_char,
    pub load: function::load,
    pub unload: function::unload,
    pub config: function::config,
    pub config_complete: function::config_complete,
    pub config_help: *const c_char,
    pub open: function::open,
    pub close: function::close,
    pub get_size: function::get_size,
    pub can_write: function::can_write,
    pub can_flush: function::can_flush,
    pub is_rotational: function::is_rotational,
    pub can_trim: function::can_trim,
    pub _pread_v1: function::_pread_v1,
    pub _pwrite_v1: function::_pwrite_v1,
    pub _flush_v1: function::_flush_v1,
    pub _trim_v1: function::_trim_v1,
    pub _zero_v1: function::_zero_v1,
    pub errno_is_preserved: c_int,
    pub dump_plugin: function::dump_plugin,
    pub can_zero: function::can_zero,
    pub can_fua: function::can_fua,
    pub pread: function::pread,
    pub pwrite: function::pwrite,
    pub flush: function::flush,
    pub trim: function::trim,
    pub zero: function::zero,
    pub magic_config_key: *const c_char,
    pub can_multi_conn: function::can_multi_conn,
    pub can_extents: function::can_extents,
    pub extents: function::extents,
    pub can_cache: function::can_cache,
    pub cache: function::cache,
    pub thread_model: function::thread_model,
    pub can_fast_zero: function::can_fast_zero,
    pub preconnect: function::preconnect,
    pub get_ready: function::get_ready,
    pub after_fork: function::after_fork,
    pub list_exports: function::list_exports,
    pub default_export: function::default_export,
    pub export_description: function::export_description,
    pub cleanup: function::cleanup,
    pub block_size: function::block_size,
}

// SAFETY: the pointers are to strings and functions that are never written.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

impl Plugin {
    /// NULL and 0 everywhere.
    // SAFETY: zero is a valid value of every field: NULL, None or 0.
    pub const EMPTY: Plugin = unsafe { std::mem::zeroed() };
}

macro_rules! table {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        impl Plugin {
            /// This structure, with the callbacks of `other` where it has one.
            #[must_use]
            pub fn replaced_by(&self, other: &Plugin) -> Plugin {
                Plugin {
                    $($field: self.$field.and(other.$field),)*
                    open: self.open.and(other.open),
                    close: self.close.and(other.close),
                    ..*self
                }
            }

            /// Which callbacks the plugin has.
            pub fn callbacks(&self) -> u64 {
                let mut set = 0;
                $(if self.$field.is_some() { set |= Callback::$variant.bit(); })*
                if self.open.is_some() { set |= Callback::Open.bit(); }
                if self.close.is_some() { set |= Callback::Close.bit(); }
                set
            }

            /// Takes a callback out.
            pub fn remove(&mut self, callback: Callback) {
                $(if callback == Callback::$variant { self.$field = None; })*
                match callback {
                    Callback::Open => self.open = None,
                    Callback::Close => self.close = None,
                    _ => (),
                }
            }
        }
    };
}

plugin_callbacks!(table);

/// A copy of somebody's structure: as long as the target says that it is, with zeroes behind.
///
/// Fields that came after this was written are kept, so that the server calls them, unrecorded.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct PluginCopy([u8; PluginCopy::SIZE]);

impl PluginCopy {
    /// No version of the structure will be as long as this.
    const SIZE: usize = 4096;

    /// Copies the structure that `plugin_init` of a target has returned.
    ///
    /// # Safety
    ///
    /// `plugin` points to a `struct nbdkit_plugin` of `_struct_size` bytes.
    pub unsafe fn new(plugin: *const Plugin) -> PluginCopy {
        let mut copy = PluginCopy([0; PluginCopy::SIZE]);
        // SAFETY: the first field stands in every version.
        let size = unsafe { plugin.cast::<u64>().read() };
        let size = usize::try_from(size).unwrap_or(usize::MAX).clamp(size_of::<u64>(), PluginCopy::SIZE);
        // SAFETY: as the caller promises; the copy is no shorter.
        unsafe { std::ptr::copy_nonoverlapping(plugin.cast::<u8>(), copy.0.as_mut_ptr(), size) };
        copy
    }

    /// The part that is known.
    pub fn plugin(&self) -> &Plugin {
        // SAFETY: aligned and longer; every bit pattern that a plugin may hold is valid, NULL being None.
        unsafe { &*self.0.as_ptr().cast() }
    }

    /// The part that is known, to be changed.
    pub fn plugin_mut(&mut self) -> &mut Plugin {
        // SAFETY: as in `plugin`.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }
}

const _: () = assert!(size_of::<Plugin>() <= PluginCopy::SIZE);
