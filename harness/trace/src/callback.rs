//! Every callback that an instrument can record, declared once.

macro_rules! callbacks {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal,)*) => {
        /// A callback of nbdkit's `struct nbdkit_plugin` or `struct nbdkit_filter`, or of HAProxy's `struct cli_kw` or
        /// `struct applet`, under its field name.
        ///
        /// The number is part of the trace format: append, never renumber.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Callback { $($(#[$doc])* #[doc = concat!("`.", $name, "`")] $variant = $number,)* }

        impl Callback {
            /// All callbacks, by ascending number.
            pub const ALL: &[Callback] = &[$(Callback::$variant,)*];

            /// The field name in the C structure.
            pub const fn name(self) -> &'static str {
                match self { $(Callback::$variant => $name,)* }
            }
        }
    };
}

callbacks! {
    Load = 0 "load",
    Unload = 1 "unload",
    Config = 2 "config",
    ConfigComplete = 3 "config_complete",
    ThreadModel = 4 "thread_model",
    DumpPlugin = 5 "dump_plugin",
    GetReady = 6 "get_ready",
    AfterFork = 7 "after_fork",
    Cleanup = 8 "cleanup",
    Preconnect = 9 "preconnect",
    ListExports = 10 "list_exports",
    DefaultExport = 11 "default_export",
    Open = 12 "open",
    Close = 13 "close",
    Prepare = 14 "prepare",
    Finalize = 15 "finalize",
    GetSize = 16 "get_size",
    ExportDescription = 17 "export_description",
    BlockSize = 18 "block_size",
    CanWrite = 19 "can_write",
    CanFlush = 20 "can_flush",
    IsRotational = 21 "is_rotational",
    CanTrim = 22 "can_trim",
    CanZero = 23 "can_zero",
    CanFastZero = 24 "can_fast_zero",
    CanExtents = 25 "can_extents",
    CanFua = 26 "can_fua",
    CanMultiConn = 27 "can_multi_conn",
    CanCache = 28 "can_cache",
    Pread = 29 "pread",
    Pwrite = 30 "pwrite",
    Flush = 31 "flush",
    Trim = 32 "trim",
    Zero = 33 "zero",
    Extents = 34 "extents",
    Cache = 35 "cache",
    PreadV1 = 36 "_pread_v1",
    PwriteV1 = 37 "_pwrite_v1",
    FlushV1 = 38 "_flush_v1",
    TrimV1 = 39 "_trim_v1",
    ZeroV1 = 40 "_zero_v1",
    Parse = 41 "parse",
    IoHandler = 42 "io_handler",
    IoRelease = 43 "io_release",
    Init = 44 "init",
    Fct = 45 "fct",
    Release = 46 "release",
}

impl Callback {
    /// Those of nbdkit's plugins and filters.
    pub const NBDKIT: &[Callback] = match Callback::ALL.split_at_checked(Callback::Parse as usize) {
        Some((nbdkit, _)) => nbdkit,
        None => &[],
    };

    /// The callback with this number in the trace format.
    #[inline]
    pub fn from_number(number: u8) -> Option<Callback> {
        Callback::ALL.get(usize::from(number)).copied()
    }

    /// The callback with this field name.
    pub fn from_name(name: &str) -> Option<Callback> {
        Callback::ALL.iter().copied().find(|callback| callback.name() == name)
    }

    /// This callback's bit in a set of callbacks, as [`crate::Event::has_callback`] reads it.
    #[inline]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Moves data or metadata of the disk: `pread`, `pwrite`, `flush`, `trim`, `zero`, `extents`, `cache`.
    #[inline]
    pub const fn is_data(self) -> bool {
        self as u8 >= Callback::Pread as u8 && self as u8 <= Callback::ZeroV1 as u8
    }

    /// A question about one handle: `get_size`, `export_description`, `block_size`, `is_rotational`, `can_*`.
    #[inline]
    pub const fn is_query(self) -> bool {
        self as u8 >= Callback::GetSize as u8 && self as u8 <= Callback::CanCache as u8
    }

    /// Takes a handle, so that it belongs to one `open`.
    #[inline]
    pub const fn has_handle(self) -> bool {
        self as u8 >= Callback::Close as u8 && !self.is_appctx()
    }

    /// An operation of `struct nbdkit_next_ops`: `prepare`, `finalize`, questions and data.
    #[inline]
    pub const fn is_below(self) -> bool {
        self as u8 >= Callback::Prepare as u8 && self as u8 <= Callback::Cache as u8
    }

    /// Belongs to a client's connection (nbdkit-plugin(3), "CALLBACK LIFECYCLE"): all from `preconnect` on.
    #[inline]
    pub const fn is_connected(self) -> bool {
        self as u8 >= Callback::Preconnect as u8 && !self.is_appctx()
    }

    /// HAProxy's: takes an appctx. `parse`, `io_handler` and `io_release` are a keyword's; `init`, `fct` and `release` an
    /// applet's.
    #[inline]
    pub const fn is_appctx(self) -> bool {
        self as u8 >= Callback::Parse as u8
    }

    /// HAProxy's, of a keyword of its command line.
    #[inline]
    pub const fn is_keyword(self) -> bool {
        matches!(self, Callback::Parse | Callback::IoHandler | Callback::IoRelease)
    }
}

impl std::fmt::Display for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl serde::Serialize for Callback {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Callback {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Callback, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Callback::from_name(&name)
            .filter(|callback| !callback.is_appctx())
            .ok_or_else(|| serde::de::Error::custom(format!("`{name}` is not a callback of nbdkit")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions_in_the_list() {
        for (position, callback) in Callback::ALL.iter().enumerate() {
            assert_eq!(*callback as usize, position);
            assert_eq!(Callback::from_number(position as u8), Some(*callback));
            assert_eq!(Callback::from_name(callback.name()), Some(*callback));
        }
        assert!(Callback::ALL.len() <= 64, "a set of callbacks is one u64");
    }
}
