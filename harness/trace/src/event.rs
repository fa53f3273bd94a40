//! A record as the reader hands it out: with its texts, and with names for its fields.

use crate::callback::Callback;
use crate::record::{RECORD_SIZE, Record, TEXT_CONTINUES, TEXT_CUT, TEXT_SIZE};

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// The value with this number in the trace format.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}

numbered! {
    /// What a record says.
    Kind {
        /// A callback was entered.
        Enter = 1,
        /// A callback returned.
        Exit = 2,
        /// An instrument registered a layer: which callbacks its target has, its name and file.
        Layer = 3,
        /// An instrument looked at something that no argument shows; see [`Probe`].
        Probe = 4,
        /// A client is about to ask for something; see [`Operation`].
        Request = 5,
        /// The client has the answer.
        Reply = 6,
        /// The harness describes the run (JSON text).
        Run = 7,
        /// The harness sent the server a signal (number in `a`), or the server has got it, in a run of `layers watch`.
        Signal = 8,
        /// The server ended (status as of wait(2) in `a`).
        End = 9,
        /// Text that belongs to the record before; the reader folds it in and never hands it out.
        Text = 10,
        /// A reference filter is about to call the layer below, or to manage a context; see [`Below`].
        Ask = 11,
        /// It has the answer.
        Answer = 12,
        /// A client says what of that which it has got the protocol forbids; see [`Breach`].
        Breach = 13,
    }
}

numbered! {
    /// What a client complains of. `handle` is the client's number, `call` the request that it waits for, where there is one,
    /// and [`Field::Message`] what it has got.
    Breach {
        /// Bytes that begin no message where one is due, or a message whose length cannot be right.
        Message = 1,
        /// A reply to another option than the one that was sent, or of a kind that this option does not have.
        Option = 2,
        /// A reply that nobody waits for: with a cookie that nobody sent, or to a request that has its reply.
        Cookie = 3,
        /// A simple reply where it must be a structured one, or the other way round.
        Shape = 4,
        /// A chunk that does not fit the request: its kind, its length, its range; or too few of them.
        Chunk = 5,
        /// Bytes that come unasked.
        Unasked = 6,
        /// The server has done what it must refuse.
        Granted = 7,
    }
}

numbered! {
    /// What a text is.
    Field {
        /// Key of a parameter.
        Key = 1,
        /// Value of a parameter.
        Value = 2,
        /// Name of an export.
        Export = 3,
        /// Description of an export.
        Description = 4,
        /// Name of a layer (`name` in its structure).
        Name = 5,
        /// File of the target of a wrapper.
        Target = 6,
        /// JSON.
        Json = 7,
        /// Error message.
        Message = 8,
        /// Minimum, preferred and maximum block size that a client is told: three u32, little-endian.
        BlockSizes = 9,
        /// `longname` of a plugin's structure.
        LongName = 10,
        /// `version` of a plugin's structure.
        Version = 11,
        /// `config_help` of a module's structure.
        Help = 12,
        /// Words of a keyword of HAProxy's command line, or the name of an applet.
        Keyword = 20,
        /// Bytes that a client sent, or got.
        Bytes = 21,
        /// A list of extents ([`crate::digest::Extent`]).
        Extents = 22,
    }
}

numbered! {
    /// What an instrument looked at; the result in `a` is 1 when it was as promised, else 0.
    Probe {
        /// Key and value of every parameter still read as when `config` got them (nbdkit-plugin(3), `.config`).
        ConfigStrings = 1,
        /// `nbdkit_export_name` gives what it gave in `open` (nbdkit-plugin(3), "EXPORT NAME").
        ExportName = 2,
        /// A string interned in this handle's `open` still reads the same (nbdkit-plugin(3), "STRING LIFETIME").
        InternedInConnection = 3,
        /// A string interned in `load` still reads the same (same section).
        InternedGlobally = 4,
        /// `nbdkit_context_get_backend` of this handle's context gives what it gave in `open`, asked at the start
        /// of its `close` (nbdkit-filter(3), "nbdkit_context_get_backend").
        ContextBackend = 5,
        /// Threads of the process when the last layer of an image has been unloaded, in `b`; `a` is 1 when only the main
        /// thread is left (nbdkit-plugin(3), ".cleanup", ".unload").
        ThreadsLeft = 16,
        /// Where the fields of an appctx lie, as the instrument of HAProxy found out (JSON); 0 when it could not tell.
        AppctxLayout = 20,
        /// `applet_reserve_svcctx` of a size that fits gave the storage area, and `svcctx` holds it; the size is in `b`.
        Reserve = 21,
        /// The handler is about to reserve more than fits; the size is in `b`. There is no result: the server is to stop.
        ReserveTooMuch = 22,
        /// A print helper has left `svcctx` at the print context in the storage area.
        PrintContext = 23,
        /// What the handler itself allocated and stored in `svcctx` reads as it was written.
        OwnMemory = 24,
        /// The allocation that the handler asked for failed as told: `svcctx` stays NULL.
        OwnMemoryFailed = 25,
        /// After the server has printed an error, the transitional fields `ctx.cli` of HAProxy 2.6 hold it.
        LegacyFields = 27,
        /// From here on calls of the command, or of the applet, are not recorded: there were too many. Its last call is.
        Unrecorded = 26,
        /// Keywords or applets of the server that the instrument could not wrap; [`Field::Message`] says which, and why.
        /// Nothing was promised of it.
        Unwrapped = 28,
        /// `nbdkit_nanosleep` has returned: `a` is 1 when it slept to the end, `b` the nanoseconds asked for, `context`
        /// those that passed (nbdkit-plugin(3), "SLEEPING"). Nothing was promised of `a`.
        Nanosleep = 6,
        /// The reference plugin asks who its client is: `a` is 1 when `nbdkit_export_name` is not NULL, `b` is
        /// `nbdkit_is_tls`. Nothing was promised of `a`.
        Identity = 7,
        /// What a read or a write did to a buffer that the instrument had put in place of the caller's: `a` is 1 when nothing
        /// outside was changed, no byte of a write, and when no stretch of what a read is to fill is as it was. In `b` the
        /// first byte and (high half) the length of the stretch that was kept or changed; in `c` the bytes at the start and
        /// (high half) at the end that were kept; in `d` the place of a byte outside that was changed, counted from the
        /// buffer; `context` is 1 when the call has succeeded, and `b` and `c` say something ([`crate::lent::Seen`]).
        Lent = 40,
        /// Bytes of malloc's memory in use, in `b`, when a handle of the plugin has been closed; `a` is 1 where the C library
        /// can tell. Nothing was promised of it.
        Allocated = 41,
        /// A call that has promised so (a flush, or one with FUA) has returned: `a` is 1 when every file that it is about was
        /// synchronised since it was last written to, else `context` is the call that has written and [`Field::Name`] the
        /// file's name. Only of calls of the C library in the target's own image.
        Durable = 42,
        /// What the target gives to nbdkit_set_error is seen; `a` is 1 where it is. Nothing was promised of it.
        Watched = 43,
        /// Something was made to fail in this call: the number of what in `b`, the errno in `c`. Nothing was promised of it.
        Refused = 44,
        /// The process is about to end. `a` is 1 where it does so by exit(3), and `b` its status; else `b` is the signal that
        /// ends it. Only in a run of `layers watch`, whose servers are not its children. Nothing was promised of it.
        Ended = 45,
        /// A client of the harness has tried this of a command of HAProxy's ([`Field::Keyword`]): the number of the [`Trial`] in
        /// `b`. Where it was otherwise than promised, [`Field::Message`] is what was expected and [`Field::Value`] what came.
        /// Where nothing is said of the command, `a` is [`crate::appctx::UNJUDGED`], and [`Field::Message`] says why.
        Tried = 46,
        /// What the reference plugin has added to the list in this `extents`, extent by extent from the offset of the call on
        /// ([`Field::Extents`]). Nothing was promised.
        Added = 10,
        /// A reference layer calls `nbdkit_shutdown` next.
        Shutdown = 8,
        /// A reference layer calls `nbdkit_disconnect` next, with `force` in `b`; `a` is 0 when the server has no such
        /// function, and then nothing is called.
        Disconnect = 9,
    }
}

numbered! {
    /// What a client of the harness tries of a command, beside asking for it.
    Trial {
        /// Reading its answer slowly, or through small buffers.
        Whole = 1,
        /// Asking for it after arguments that are refused.
        AfterRefused = 2,
        /// Counting what is in use after each round of it.
        Counted = 3,
        /// Asking for it at a level for which the manual restricts it.
        Restricted = 4,
        /// Asking for it at level user, where it says that it changes something.
        Changing = 5,
        /// Reading its answer while what it shows is changed.
        Changed = 6,
        /// Asking for it while requests wait.
        Waiting = 7,
    }
}

numbered! {
    /// A function of the server that manages contexts (nbdkit-filter(3), "nbdkit_next"). The numbers do not meet those of
    /// callbacks.
    ContextFunction {
        /// `nbdkit_next_context_open`: `context` is the backend, `c` is 1 when shared, `d` is readonly; the answer's `b` is
        /// the new `next`.
        Open = 64,
        /// `nbdkit_next_context_close`: `context` is the `next`.
        Close = 65,
        /// `nbdkit_context_set_next`: `context` is the filter's own, `b` the `next` to be; the answer's `b` is the one that
        /// was.
        SetNext = 66,
    }
}

/// What a filter calls below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// This operation of `next`; the fields are those of the callback in a filter.
    Next(Callback),
    /// A function of the server.
    Context(ContextFunction),
}

impl Below {
    /// What has this number in the trace format.
    pub fn from_number(number: u8) -> Option<Below> {
        let function = || ContextFunction::from_number(number).map(Below::Context);
        Callback::from_number(number)
            .filter(|callback| callback.is_below())
            .map(Below::Next)
            .or_else(function)
    }
}

numbered! {
    /// Who gives the answer of a reply (in its `layer`) to a request of the transmission phase. Where it is nobody of these, the client
    /// says it by itself: it has not sent the request, or the connection or the time is over.
    Speaker {
        /// The server, in a simple reply; errno is the number in it.
        Simple = 1,
        /// The server, in a structured reply; errno is the number in its error chunk.
        Structured = 2,
        /// The server, and libnbd repeats it with the errno that the number in the reply stands for.
        Repeated = 3,
    }
}

numbered! {
    /// What a client does. `handle` is the client's number; offset, count and flags stand as in a callback, but the
    /// flags are those of the protocol (NBD_CMD_FLAG_*).
    Operation {
        /// Connect and read the greeting.
        Connect = 1,
        /// NBD_OPT_LIST.
        List = 2,
        /// NBD_OPT_INFO; the bits of `b` are the NBD_INFO types asked for.
        Info = 3,
        /// NBD_OPT_GO; the bits of `b` are the NBD_INFO types asked for.
        Go = 4,
        /// NBD_OPT_EXPORT_NAME.
        ExportName = 5,
        /// NBD_OPT_ABORT.
        Abort = 6,
        /// NBD_OPT_STARTTLS.
        StartTls = 7,
        /// NBD_CMD_READ. In the reply `b` is the digest of its bytes where all have come, `d` how many of them have come, and
        /// `context` how many bytes the server has sent for it, those twice told or beside the range included.
        Read = 8,
        /// NBD_CMD_WRITE; `b` says how many bytes of its data the client holds back, `context` is the digest of all of it.
        Write = 9,
        /// NBD_CMD_FLUSH.
        Flush = 10,
        /// NBD_CMD_TRIM.
        Trim = 11,
        /// NBD_CMD_WRITE_ZEROES.
        Zero = 12,
        /// NBD_CMD_CACHE.
        Cache = 13,
        /// NBD_CMD_BLOCK_STATUS. The reply has what was told in [`Field::Extents`], a text for each chunk.
        BlockStatus = 14,
        /// NBD_CMD_DISC, then wait for the server to close. (libnbd closes its own direction then, the raw client
        /// nothing.)
        Disconnect = 15,
        /// Close the socket without a word.
        Hangup = 16,
        /// NBD_OPT_STRUCTURED_REPLY.
        StructuredReply = 17,
        /// NBD_OPT_SET_META_CONTEXT for an export; the texts are its name, and the names of the contexts. The reply has the
        /// names of those that are set.
        SetMetaContext = 18,
        /// An option that the protocol does not know; its number in `b`.
        UnknownOption = 19,
        /// A request of a type that the protocol does not know; its number in `b`.
        UnknownCommand = 20,
        /// Bytes that begin no message.
        Garbage = 21,
        /// Close the socket in the direction of the server, and go on listening.
        HalfClose = 22,
        /// NBD_OPT_LIST_META_CONTEXT for an export; the texts are its name, and what is asked for.
        ListMetaContext = 23,
        /// Send bytes to HAProxy (its command line, or HTTP).
        Send = 30,
        /// Wait for an answer of HAProxy: bytes, or the end of them (result 0).
        Receive = 31,
    }
}

impl Operation {
    /// A transmission-phase command that leads to a data callback.
    #[inline]
    pub const fn is_data(self) -> bool {
        self as u8 >= Operation::Read as u8 && self as u8 <= Operation::BlockStatus as u8
    }
}

/// Text of a record. All texts of one record share [`Text::MOST`] bytes, and it has at most 255 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What it is.
    pub field: Field,
    /// Its bytes, not always UTF-8.
    pub bytes: Vec<u8>,
    /// The writer had more than it could keep: `bytes` is its beginning.
    pub cut: bool,
}

impl Text {
    /// Bytes of all texts of one record together, when they fill whole text records; the writer cuts what goes beyond.
    pub const MOST: usize = u8::MAX as usize * TEXT_SIZE;
}

/// Error number of an exit whose `err` pointer was NULL.
pub const ERR_WAS_NULL: u32 = u32::MAX;
/// `handle` of a call that got NULL although its callback takes a handle.
pub const HANDLE_NULL: u32 = 0;
/// `handle` of a call that got a pointer which no `open` of that layer had returned.
pub const HANDLE_FOREIGN: u32 = u32::MAX;

/// One record with its texts.
///
/// The fields are those of the record; which of them mean something depends on the kind and the callback:
///
/// | callback | `context` | `a` | `b` | `c` | `d` |
/// |---|---|---|---|---|---|
/// | config, config_complete (filter) | nxdata | | | | |
/// | thread_model (filter, 1.44) | | argument | | | |
/// | get_ready (filter) | | thread model | | | |
/// | after_fork, cleanup (filter) | backend | | | | |
/// | preconnect | backend | | | | readonly |
/// | list_exports, default_export | backend | | | is_tls | readonly |
/// | open | own context | | backend of the context | is_tls | readonly |
/// | prepare | next | | | | readonly |
/// | finalize, get_size, can_* … | next | | | | |
/// | pread … cache | next | offset | buffer, or extents | count | flags |
/// | exit of an int or int64 callback | | result | | errno | `*err` or [`ERR_WAS_NULL`] |
/// | exit of pread, answer of it | | result | digest of the bytes read ([`crate::digest`]), 0 without one | errno | |
/// | exit of pwrite | | result | digest of the bytes to be written, as the call got them; 0 without one | errno | |
/// | exit of a failed data callback (reference plugin) | | -1 | | errno | what it gave to nbdkit_set_error, or 0 |
/// | exit of open, default_export, … | | 1 if not NULL | | errno | |
/// | exit of block_size | | result | minimum, preferred << 32 | errno | maximum |
/// | exit of list_exports | | result | exports now in the list | errno | |
/// | exit of extents | | result | extents now in the list | errno | err |
/// | reply to a choice of an export | size | result | NBD_FLAG_* | errno | NBD_INFO types told, a bit each |
/// | reply to a refused option | NBD_REP_ERR_* | result | | errno | NBD_INFO types told, a bit each |
/// | registration of a plugin | see below | callbacks | those made up | `_thread_model` | `_api_version` |
/// | enter of an appctx callback | `svcctx` | address of the appctx | see [`crate::appctx::State`] | `st0` | flags |
/// | exit of an appctx callback | `svcctx` | result | the same | `st0` | flags |
///
/// A registration ([`Kind::Layer`]) has in `context` 0 where nothing is known of nbdkit_set_error, else 1, or 2 for a plugin
/// with `errno_is_preserved`. A plugin's has its `_struct_size` in `handle`, and the highest bit there where it has
/// `errno_is_preserved`.
///
/// A choice of an export is [`Operation::Info`], [`Operation::Go`], [`Operation::ExportName`], and where the protocol is the
/// oldstyle one [`Operation::Connect`]. Bit 0 of `d` (NBD_INFO_EXPORT) says that the size and the flags are what the client was told;
/// what it was told in words stands in the texts. libnbd does not show whether it was told the name, only which one to use.
///
/// A registration of a keyword or applet of HAProxy has its number in `handle` (the `number` of
/// [`crate::appctx::State`] in its calls), its callbacks in `a`, in `c` 1 when it is the instrument's own, and its words in
/// [`Field::Keyword`]. The `handle` of a call is the minted id of its appctx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the trace, which is the total order.
    pub position: u32,
    /// What it says.
    pub kind: Kind,
    /// 0 is the plugin, n the outermost filter.
    pub layer: u8,
    /// Number of the callback, operation or probe; see [`Event::callback`].
    pub number: u8,
    /// Thread.
    pub tid: u32,
    /// Process; it changes when the server forks.
    pub pid: u32,
    /// Position of the enter (of the request or ask, for a reply or answer) that this belongs to; its own for an enter.
    pub call: u32,
    /// Minted id of the handle, [`HANDLE_NULL`] or [`HANDLE_FOREIGN`]; for a request and its reply, the client.
    pub handle: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// `next`, own context at open, or backend.
    pub context: u64,
    /// See the table.
    pub a: u64,
    /// See the table.
    pub b: u64,
    /// See the table.
    pub c: u32,
    /// See the table.
    pub d: u32,
    /// Texts, in the order written.
    pub texts: Vec<Text>,
}

impl Event {
    /// The callback of an enter or exit.
    #[inline]
    pub fn callback(&self) -> Option<Callback> {
        matches!(self.kind, Kind::Enter | Kind::Exit).then(|| Callback::from_number(self.number)).flatten()
    }

    /// The operation of a request or reply.
    #[inline]
    pub fn operation(&self) -> Option<Operation> {
        matches!(self.kind, Kind::Request | Kind::Reply)
            .then(|| Operation::from_number(self.number))
            .flatten()
    }

    /// What a reference filter asks below it, or has the answer of.
    #[inline]
    pub fn below(&self) -> Option<Below> {
        matches!(self.kind, Kind::Ask | Kind::Answer).then(|| Below::from_number(self.number)).flatten()
    }

    /// What a client complains of.
    pub fn breach(&self) -> Option<Breach> {
        (self.kind == Kind::Breach).then(|| Breach::from_number(self.number)).flatten()
    }

    /// Who gives the answer of a reply.
    pub fn speaker(&self) -> Option<Speaker> {
        (self.kind == Kind::Reply).then(|| Speaker::from_number(self.layer)).flatten()
    }

    /// What a probe looked at.
    #[inline]
    pub fn probe(&self) -> Option<Probe> {
        (self.kind == Kind::Probe).then(|| Probe::from_number(self.number)).flatten()
    }

    /// Byte offset of a data call or request.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.a
    }

    /// Byte count of a data call or request.
    #[inline]
    pub fn count(&self) -> u32 {
        self.c
    }

    /// NBDKIT_FLAG_* of a data call, NBD_CMD_FLAG_* of a request.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.d
    }

    /// The `readonly` argument.
    #[inline]
    pub fn readonly(&self) -> bool {
        self.d != 0
    }

    /// The `is_tls` argument.
    #[inline]
    pub fn is_tls(&self) -> bool {
        self.c != 0
    }

    /// Result of an exit: the integer, or for a pointer 0 when it was NULL and else 1.
    #[inline]
    pub fn result(&self) -> i64 {
        self.a.cast_signed()
    }

    /// `errno` after the call.
    #[inline]
    pub fn errno(&self) -> u32 {
        self.c
    }

    /// What a filter's data callback left in `*err`; `None` when the pointer was NULL.
    #[inline]
    pub fn err(&self) -> Option<u32> {
        (self.d != ERR_WAS_NULL).then_some(self.d)
    }

    /// minimum, preferred, maximum that `block_size` answered.
    pub fn block_size(&self) -> (u32, u32, u32) {
        (self.b as u32, (self.b >> 32) as u32, self.d)
    }

    /// Minimum, preferred and maximum block size that a client is told.
    pub fn told_block_sizes(&self) -> Option<[u32; 3]> {
        let bytes = &self.text(Field::BlockSizes)?.bytes;
        let (sizes, []) = bytes.as_chunks() else { return None };
        sizes.iter().map(|size| u32::from_le_bytes(*size)).collect::<Vec<_>>().try_into().ok()
    }

    /// The text of this field.
    pub fn text(&self, field: Field) -> Option<&Text> {
        self.texts.iter().find(|text| text.field == field)
    }

    /// For a registration: the layer's target has this callback.
    #[inline]
    pub fn has_callback(&self, callback: Callback) -> bool {
        self.a & callback.bit() != 0
    }

    /// For a registration: this callback exists only because the instrument gave the target the server's default.
    pub fn is_synthetic(&self, callback: Callback) -> bool {
        self.b & callback.bit() != 0
    }

    /// The records of this event, to be written at its position; what goes beyond [`Text::MOST`] is cut.
    pub fn to_records(&self, epoch: u32) -> Vec<[u8; RECORD_SIZE]> {
        let mut texts = Vec::new();
        let mut room = Room::of(self.texts.len());
        for text in &self.texts {
            let records = room.take(text.bytes.len());
            pack_text(text.field, &text.bytes, records, text.cut, |record| {
                texts.push(Record { epoch, ..record });
            });
        }
        let first = Record {
            epoch,
            kind: self.kind as u8,
            layer: self.layer,
            callback: self.number,
            texts: texts.len() as u8,
            tid: self.tid,
            pid: self.pid,
            call: self.call,
            handle: self.handle,
            time: self.time,
            context: self.context,
            a: self.a,
            b: self.b,
            c: self.c,
            d: self.d,
        };
        std::iter::once(first).chain(texts).map(Record::to_bytes).collect()
    }
}

/// Shares the text records of one event among its texts: each gets one, and what is left goes to the earlier ones.
pub(crate) struct Room {
    records: usize,
    texts: usize,
}

impl Room {
    /// Room for this many texts.
    pub(crate) fn of(texts: usize) -> Room {
        let records = u8::MAX as usize;
        Room { records, texts: texts.min(records) }
    }

    /// How many records the next text gets; 0 only from the 256th text on.
    pub(crate) fn take(&mut self, length: usize) -> usize {
        self.texts = self.texts.saturating_sub(1);
        let records = text_records(length).min(self.records - self.texts);
        self.records -= records;
        records
    }
}

/// Text records that a text of this length needs; an empty one needs one too.
const fn text_records(length: usize) -> usize {
    if length == 0 { 1 } else { length.div_ceil(TEXT_SIZE) }
}

/// Packs as much of a text as fits into this many records. Allocates nothing: it runs inside the server.
pub(crate) fn pack_text(field: Field, bytes: &[u8], records: usize, cut: bool, mut put: impl FnMut(Record)) {
    let cut = cut || records < text_records(bytes.len());
    let cut = if cut { TEXT_CUT } else { 0 };
    for index in 0..records {
        let continues = if index > 0 { TEXT_CONTINUES } else { 0 };
        let rest = bytes.get(index * TEXT_SIZE..).unwrap_or_default();
        let part = rest.get(..TEXT_SIZE).unwrap_or(rest);
        let mut raw = [0; RECORD_SIZE];
        let head = [Kind::Text as u8, continues | cut, field as u8, part.len() as u8];
        for (to, from) in raw.iter_mut().skip(4).zip(head.iter().chain(part)) {
            *to = *from;
        }
        if let Some(record) = Record::from_bytes(&raw) {
            put(record);
        }
    }
}
