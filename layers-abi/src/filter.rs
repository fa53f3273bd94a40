//! The callbacks of a filter, and reading and writing them in `struct nbdkit_filter` of any version.

use std::ffi::{c_char, c_int, c_void};

use layers_trace::Callback;

use crate::arguments::{
    Backend, Buffer, Context, Count, DescriptionResult, ErrorPointer, ExportName, ExportNameResult, Exports,
    Extents, Flags, Handle, IsTls, Key, Maximum, Minimum, Next, NextConfig, NextConfigComplete,
    NextDefaultExport, NextListExports, NextOpen, NextPreconnect, Offset, Preferred, ReadOnly, ThreadModel,
    Value,
};
use crate::layout::{FILTER_WORDS, FilterLayout};

/// Calls `$then!` with every callback of a filter but `open` and `close`, which an instrument treats by hand:
/// its [`Callback`], its name here, its signature.
///
/// Types follow nbdkit-filter.h; nbdkit-filter(3) has `int (cleanup)`, a slip for `void`.
#[macro_export]
macro_rules! filter_callbacks {
    ($then:ident) => {
        $then! {
            Load load() -> ();
            Unload unload() -> ();
            Config config(next: NextConfig, nxdata: Backend, key: Key, value: Value) -> c_int;
            ConfigComplete config_complete(next: NextConfigComplete, nxdata: Backend) -> c_int;
            ThreadModel thread_model() -> c_int;
            ThreadModel thread_model_over(next_model: ThreadModel) -> c_int;
            DumpPlugin dump_plugin() -> ();
            GetReady get_ready(model: ThreadModel) -> c_int;
            AfterFork after_fork(backend: Backend) -> c_int;
            Cleanup cleanup(backend: Backend) -> ();
            Preconnect preconnect(next: NextPreconnect, nxdata: Backend, readonly: ReadOnly) -> c_int;
            ListExports list_exports(
                next: NextListExports, nxdata: Backend, readonly: ReadOnly, is_tls: IsTls, exports: Exports
            ) -> c_int;
            DefaultExport default_export(
                next: NextDefaultExport, nxdata: Backend, readonly: ReadOnly, is_tls: IsTls
            ) -> ExportNameResult;
            Prepare prepare(next: Next, handle: Handle, readonly: ReadOnly) -> c_int;
            Finalize finalize(next: Next, handle: Handle) -> c_int;
            GetSize get_size(next: Next, handle: Handle) -> i64;
            ExportDescription export_description(next: Next, handle: Handle) -> DescriptionResult;
            BlockSize block_size(
                next: Next, handle: Handle, minimum: Minimum, preferred: Preferred, maximum: Maximum
            ) -> c_int;
            CanWrite can_write(next: Next, handle: Handle) -> c_int;
            CanFlush can_flush(next: Next, handle: Handle) -> c_int;
            IsRotational is_rotational(next: Next, handle: Handle) -> c_int;
            CanTrim can_trim(next: Next, handle: Handle) -> c_int;
            CanZero can_zero(next: Next, handle: Handle) -> c_int;
            CanFastZero can_fast_zero(next: Next, handle: Handle) -> c_int;
            CanExtents can_extents(next: Next, handle: Handle) -> c_int;
            CanFua can_fua(next: Next, handle: Handle) -> c_int;
            CanMultiConn can_multi_conn(next: Next, handle: Handle) -> c_int;
            CanCache can_cache(next: Next, handle: Handle) -> c_int;
            Pread pread(
                next: Next, handle: Handle, buffer: Buffer, count: Count, offset: Offset, flags: Flags,
                err: ErrorPointer
            ) -> c_int;
            Pwrite pwrite(
                next: Next, handle: Handle, buffer: Buffer, count: Count, offset: Offset, flags: Flags,
                err: ErrorPointer
            ) -> c_int;
            Flush flush(next: Next, handle: Handle, flags: Flags, err: ErrorPointer) -> c_int;
            Trim trim(
                next: Next, handle: Handle, count: Count, offset: Offset, flags: Flags, err: ErrorPointer
            ) -> c_int;
            Zero zero(
                next: Next, handle: Handle, count: Count, offset: Offset, flags: Flags, err: ErrorPointer
            ) -> c_int;
            Extents extents(
                next: Next, handle: Handle, count: Count, offset: Offset, flags: Flags, extents: Extents,
                err: ErrorPointer
            ) -> c_int;
            Cache cache(
                next: Next, handle: Handle, count: Count, offset: Offset, flags: Flags, err: ErrorPointer
            ) -> c_int;
        }
    };
}

macro_rules! table {
    ($($variant:ident $field:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        /// The callbacks of one filter, whatever the version.
        #[derive(Clone, Copy, Debug, Default)]
        #[allow(missing_docs, reason = "the fields of struct nbdkit_filter; `thread_model_over` is `thread_model` from 1.44 on")]
        pub struct FilterTable {
            $(pub $field: Option<unsafe extern "C" fn($($kind),*) -> $result>,)*
            pub open: Option<OpenFunction>,
            pub close: Option<unsafe extern "C" fn(Handle)>,
        }

        impl FilterTable {
            fn read_words(words: &FilterWords, layout: &FilterLayout) -> FilterTable {
                // SAFETY: a word of the structure where the header has a callback of this type is NULL or one; which
                // of the two `thread_model`s it is the caller sorts out before either is called.
                FilterTable { $($field: unsafe { words.callback(layout, Callback::$variant) },)*
                    // SAFETY: as above.
                    open: unsafe { words.callback(layout, Callback::Open) },
                    // SAFETY: as above.
                    close: unsafe { words.callback(layout, Callback::Close) },
                }
            }

            fn write_words(&self, words: &mut FilterWords, layout: &FilterLayout) {
                $(if let Some(function) = self.$field {
                    words.set(layout, Callback::$variant.name(), function as usize);
                })*
                if let Some(function) = self.open {
                    words.set(layout, "open", function as usize);
                }
                if let Some(function) = self.close {
                    words.set(layout, "close", function as usize);
                }
            }

            /// The callbacks of `other` where this table has one.
            #[must_use]
            pub fn replaced_by(&self, other: &FilterTable) -> FilterTable {
                FilterTable {
                    $($field: self.$field.and(other.$field),)*
                    open: self.open.and(other.open),
                    close: self.close.and(other.close),
                }
            }

            /// Which callbacks the table has.
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

/// `open` of a filter.
pub type OpenFunction = unsafe extern "C" fn(NextOpen, Context, ReadOnly, ExportName, IsTls) -> Handle;

filter_callbacks!(table);

/// `struct nbdkit_filter` of some version, as the words that it consists of.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct FilterWords([Word; FILTER_WORDS]);

/// A pointer, a function pointer, or an `int` with padding.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Word(*const c_void);

const NULL: Word = Word(std::ptr::null());

impl Default for FilterWords {
    fn default() -> FilterWords {
        FilterWords([NULL; FILTER_WORDS])
    }
}

// SAFETY: the words are only copied; whoever follows one knows what it is.
unsafe impl Send for FilterWords {}
// SAFETY: as above.
unsafe impl Sync for FilterWords {}

impl FilterWords {
    /// An empty structure of API version 6 for the server that calls itself `version`.
    pub fn new(layout: &FilterLayout, version: *const c_char, name: *const c_char) -> FilterWords {
        let mut words = FilterWords::default();
        words.set(layout, "_api_version", API_VERSION as usize);
        words.set(layout, "_version", version.expose_provenance());
        words.set(layout, "name", name.expose_provenance());
        words
    }

    /// Copies the structure that `filter_init` of a target has returned.
    ///
    /// # Safety
    ///
    /// `filter` points to a `struct nbdkit_filter` of this layout.
    pub unsafe fn copy(filter: *const c_void, layout: &FilterLayout) -> FilterWords {
        let mut words = FilterWords::default();
        let count = layout.filter.words().min(FILTER_WORDS);
        // SAFETY: the structure has that many words, and so has the array.
        unsafe { std::ptr::copy_nonoverlapping(filter.cast::<Word>(), words.0.as_mut_ptr(), count) };
        words
    }

    /// The callbacks in it.
    pub fn table(&self, layout: &FilterLayout) -> FilterTable {
        let mut table = FilterTable::read_words(self, layout);
        table.keep_one_thread_model(layout);
        table
    }

    /// Writes the callbacks of `table` over those in it; what `table` lacks stays.
    pub fn put(&mut self, table: &FilterTable, layout: &FilterLayout) {
        table.write_words(self, layout);
    }

    /// Its `name`.
    pub fn name(&self, layout: &FilterLayout) -> *const c_char {
        self.string(layout, "name")
    }

    /// Its `config_help`.
    pub fn config_help(&self, layout: &FilterLayout) -> *const c_char {
        self.string(layout, "config_help")
    }

    fn string(&self, layout: &FilterLayout, field: &str) -> *const c_char {
        layout.filter.word(field).and_then(|word| self.0.get(word)).copied().unwrap_or(NULL).0.cast()
    }

    /// # Safety
    ///
    /// `F` is `unsafe extern "C" fn` with the signature of this callback.
    unsafe fn callback<F: Copy>(&self, layout: &FilterLayout, callback: Callback) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<Word>()) };
        let word = self.0.get(layout.filter.word(callback.name())?)?;
        // SAFETY: not NULL, hence a function of that type.
        (!word.0.is_null()).then(|| unsafe { std::mem::transmute_copy::<Word, F>(word) })
    }

    fn set(&mut self, layout: &FilterLayout, field: &str, value: usize) {
        if let Some(word) = layout.filter.word(field).and_then(|word| self.0.get_mut(word)) {
            *word = Word(std::ptr::with_exposed_provenance(value));
        }
    }
}

/// The API version of every filter since 1.16.
pub const API_VERSION: c_int = 6;

impl FilterTable {
    /// One word, two signatures: keeps the one that this version has.
    pub fn keep_one_thread_model(&mut self, layout: &FilterLayout) {
        if layout.thread_model_takes_argument {
            self.thread_model = None;
        } else {
            self.thread_model_over = None;
        }
    }

    /// Drops the callbacks that a version does not have.
    pub fn keep_known(&mut self, layout: &FilterLayout) {
        for callback in Callback::NBDKIT {
            if layout.filter.word(callback.name()).is_none() {
                self.remove(*callback);
            }
        }
        self.keep_one_thread_model(layout);
    }
}

/// `_api_version` and `_version` stand at the same place in every version.
///
/// # Safety
///
/// `filter` points to a `struct nbdkit_filter` of any version since 1.16.
pub unsafe fn versions(filter: *const c_void) -> (c_int, *const c_char) {
    // SAFETY: the first two fields, see above.
    unsafe { (filter.cast::<c_int>().read(), filter.cast::<*const c_char>().add(1).read()) }
}
