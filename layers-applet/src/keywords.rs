//! Keywords of the command line: finding all of them, and recording their calls.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use layers_trace::writer::record;
use layers_trace::{Callback, Field, Kind};

use crate::appctx::Entry;
use crate::call::Call;
use crate::instrument::{Instrument, instrument, unwrapped};
use crate::memory::{self, Code, word};
use crate::own;
use crate::server::{Appctx, function};
use crate::slots::{HEAD, IoHandler, IoRelease, PARSE, Parse, WORDS};
use crate::trampoline_table::{ROW, nth, table};

const IO_HANDLER: usize = 56;
const IO_RELEASE: usize = 64;
/// Sizes that the structure may have; which one shows in lists of several keywords.
const STRIDES: [usize; 4] = [88, 96, 104, 112];
/// Keywords in one list, and bytes in one word: more is not a list of keywords.
const MOST_IN_LIST: usize = 128;
const LONGEST_WORD: usize = 64;

/// The callbacks behind the trampolines of one number; 0 for none.
struct Target {
    parse: AtomicUsize,
    io_handler: AtomicUsize,
    io_release: AtomicUsize,
}

const ROWS: usize = 24;
const KEYWORDS: usize = ROWS * ROW;

static TARGETS: [Target; KEYWORDS] = [const {
    Target { parse: AtomicUsize::new(0), io_handler: AtomicUsize::new(0), io_release: AtomicUsize::new(0) }
}; KEYWORDS];

table!(PARSES, ParseRow, parse: Parse; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
table!(IO_HANDLERS, IoHandlerRow, io_handler: IoHandler; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
table!(IO_RELEASES, IoReleaseRow, io_release: IoRelease; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
const _: () = assert!(PARSES.len() == ROWS && IO_HANDLERS.len() == ROWS && IO_RELEASES.len() == ROWS);

/// Puts trampolines into every keyword that the server has registered.
pub(crate) fn wrap(instrument: &Instrument) {
    let Some(head) = HEAD.get() else { return };
    let (code, lists) = (Code::now(), lists(*head));
    let walked =
        |stride: usize| lists.iter().filter(|list| keywords_of(&code, **list, stride).is_some()).count();
    // All lists have keywords of one size, but for those of a module that was built for another version.
    let stride =
        STRIDES.into_iter().rev().max_by_key(|stride| walked(*stride)).filter(|one| walked(*one) > 0);
    let Some(stride) = stride else {
        return unwrapped(instrument, b"the lists of keywords do not look as in any known version");
    };
    let mut number = 0;
    for list in lists {
        let Some(keywords) = keywords_of(&code, list, stride) else {
            let first = words_of(list + 16).join(&b' ');
            let what = [
                b"the list of keywords that begins with `",
                first.as_slice(),
                b"` does not look as the others do",
            ];
            unwrapped(instrument, &what.concat());
            continue;
        };
        for keyword in keywords {
            if number >= KEYWORDS {
                return unwrapped(instrument, b"there are more keywords than can be recorded");
            }
            wrap_one(instrument, number, keyword);
            number += 1;
        }
    }
}

/// The nodes of the ring, without its head.
fn lists(head: usize) -> Vec<usize> {
    const MOST: usize = 4096;
    let next = |node: &usize| word(*node).filter(|next| *next != head);
    std::iter::successors(next(&head), next).take(MOST).collect()
}

/// Addresses of the keywords of one list; `None` when they do not look like keywords of this size.
fn keywords_of(code: &Code, list: usize, stride: usize) -> Option<Vec<usize>> {
    let mut keywords = Vec::new();
    let mut keyword = list + 16;
    while keywords.len() < MOST_IN_LIST {
        match word(keyword)? {
            0 => return Some(keywords),
            first => memory::text(first, LONGEST_WORD).filter(|text| !text.is_empty())?,
        };
        for offset in [PARSE, IO_HANDLER, IO_RELEASE] {
            word(keyword + offset).filter(|function| code.has_or_null(*function))?;
        }
        keywords.push(keyword);
        keyword += stride;
    }
    None
}

fn wrap_one(instrument: &Instrument, number: usize, keyword: usize) {
    let Some(target) = TARGETS.get(number) else { return };
    let functions = [
        (Callback::Parse, PARSE, &target.parse, nth(PARSES, number).map(|f| f as usize)),
        (Callback::IoHandler, IO_HANDLER, &target.io_handler, nth(IO_HANDLERS, number).map(|f| f as usize)),
        (Callback::IoRelease, IO_RELEASE, &target.io_release, nth(IO_RELEASES, number).map(|f| f as usize)),
    ];
    let mut callbacks = 0;
    for (callback, offset, slot, trampoline) in functions {
        let (Some(real), Some(trampoline)) = (word(keyword + offset), trampoline) else { continue };
        if real == 0 {
            continue;
        }
        slot.store(real, Ordering::Relaxed);
        callbacks |= callback.bit();
        // SAFETY: a slot of a keyword in the server's writable data, or in ours; no thread runs yet.
        unsafe { ((keyword + offset) as *mut usize).write(trampoline) };
    }
    let mut note = record(Kind::Layer, 0, 0);
    (note.handle, note.a, note.c) = (number as u32, callbacks, own::has_keyword(keyword).into());
    instrument.writer.note(note, &[(Field::Keyword, &words_of(keyword).join(&b' '))]);
}

/// The words that a keyword is called by.
fn words_of(keyword: usize) -> Vec<Vec<u8>> {
    let words = (0..WORDS).map_while(|index| word(keyword + 8 * index).filter(|text| *text != 0));
    words.filter_map(|text| memory::text(text, LONGEST_WORD)).collect()
}

/// What follows a call from its trampoline to its target.
struct Keyword {
    instrument: &'static Instrument,
    number: usize,
    target: &'static Target,
}

fn keyword(row: usize, column: usize) -> Option<Keyword> {
    let number = row * ROW + column;
    Some(Keyword { instrument: instrument()?, number, target: TARGETS.get(number)? })
}

unsafe extern "C" fn parse<const R: usize, const C: usize>(
    words: *mut *mut c_char,
    payload: *mut c_char,
    appctx: Appctx,
    private: *mut c_void,
) -> c_int {
    let Some(keyword) = keyword(R, C) else { return 1 };
    // SAFETY: a parse function of the server, or our own, of this type.
    let Some(real) = (unsafe { function::<Parse>(keyword.target.parse.load(Ordering::Relaxed)) }) else {
        return 1;
    };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(keyword.instrument, Callback::Parse, appctx, keyword.number) };
    if let Some(entry) = call.entry {
        entry.restart();
        entry.forget_replaced();
    }
    keyword.learn(appctx);
    call.start();
    // SAFETY: the keyword's own function, with the server's arguments.
    let result = unsafe { real(words, payload, appctx, private) };
    let entry = call.entry;
    if let Some(entry) = entry {
        // SAFETY: the server's own argument.
        unsafe { keyword.catch_replaced(appctx, entry) };
    }
    call.finish(result.into(), result != 0);
    if let Some(entry) = entry {
        // SAFETY: the server's own argument, between two calls of an own keyword that asks for this.
        unsafe { own::meddle(keyword.instrument, appctx, entry) };
    }
    result
}

unsafe extern "C" fn io_handler<const R: usize, const C: usize>(appctx: Appctx) -> c_int {
    let Some(keyword) = keyword(R, C) else { return 1 };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(keyword.instrument, Callback::IoHandler, appctx, keyword.number) };
    keyword.learn(appctx);
    let replaced = call.entry.map_or(0, |entry| entry.io_handler.load(Ordering::Relaxed));
    let own = keyword.target.io_handler.load(Ordering::Relaxed);
    // SAFETY: an io_handler of the server, or our own, of this type.
    let Some(real) = (unsafe { function::<IoHandler>(if replaced == 0 { own } else { replaced }) }) else {
        return 1;
    };
    let recorded = call.counted();
    if recorded {
        call.start();
    }
    // SAFETY: the keyword's own function, with the server's argument.
    let result = unsafe { real(appctx) };
    let entry = call.entry;
    if let Some(entry) = entry {
        // SAFETY: the server's own argument.
        unsafe { keyword.catch_replaced(appctx, entry) };
        if result != 0 {
            entry.io_handler.store(0, Ordering::Relaxed);
        }
    }
    if recorded {
        call.finish(result.into(), result != 0);
    }
    if let Some(entry) = entry {
        // SAFETY: the server's own argument, between two calls of an own keyword that asks for this.
        unsafe { own::meddle(keyword.instrument, appctx, entry) };
    }
    result
}

unsafe extern "C" fn io_release<const R: usize, const C: usize>(appctx: Appctx) {
    let Some(keyword) = keyword(R, C) else { return };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(keyword.instrument, Callback::IoRelease, appctx, keyword.number) };
    let replaced = call.entry.map_or(0, |entry| entry.io_release.load(Ordering::Relaxed));
    let own = keyword.target.io_release.load(Ordering::Relaxed);
    // SAFETY: an io_release of the server, or our own, of this type.
    let Some(real) = (unsafe { function::<IoRelease>(if replaced == 0 { own } else { replaced }) }) else {
        return;
    };
    call.start();
    // SAFETY: the keyword's own function, with the server's argument.
    unsafe { real(appctx) };
    if let Some(entry) = call.entry {
        entry.forget_replaced();
    }
    call.finish(0, true);
}

impl Keyword {
    /// In the first call that can tell: where the server keeps the handlers of the command.
    fn learn(&self, appctx: Appctx) {
        let layout = &self.instrument.layout;
        if layout.io_handler().is_none()
            && self.target.io_handler.load(Ordering::Relaxed) != 0
            && let Some(trampoline) = nth(IO_HANDLERS, self.number)
        {
            layout.learn_io_handler(appctx, trampoline as usize, &self.instrument.writer);
        }
    }

    /// Some functions put other handlers in place of the keyword's own (`parse` of `show events`, the handler of
    /// `_loadstatus`): those are recorded, too, as the keyword's.
    ///
    /// # Safety
    ///
    /// `appctx` is the one that the server has just passed.
    unsafe fn catch_replaced(&self, appctx: Appctx, entry: &Entry) {
        let Some(offset) = self.instrument.layout.io_handler() else { return };
        let slots = [
            (offset, nth(IO_HANDLERS, self.number).map(|f| f as usize), &entry.io_handler),
            (offset + 8, nth(IO_RELEASES, self.number).map(|f| f as usize), &entry.io_release),
        ];
        for (offset, trampoline, kept) in slots {
            let Some(trampoline) = trampoline else { continue };
            // SAFETY: fields of the appctx that hold function pointers.
            let slot = unsafe { appctx.byte_add(offset).cast::<usize>() };
            // SAFETY: as above.
            let now = unsafe { slot.read() };
            if now != 0 && now != trampoline {
                kept.store(now, Ordering::Relaxed);
                // SAFETY: as above; the trampoline has the type of what stood there.
                unsafe { slot.write(trampoline) };
            }
        }
    }
}
