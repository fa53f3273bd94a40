//! Applets: finding them, wherever they lie, and recording their calls.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use layers_trace::appctx::FIRST_APPLET;
use layers_trace::writer::record;
use layers_trace::{Callback, Field, Kind};

use crate::appctx::Entry;
use crate::call::Call;
use crate::instrument::{Instrument, instrument, unwrapped};
use crate::memory::{self, Code, word};
use crate::own;
use crate::server::{Appctx, function};
use crate::trampoline_table::{ROW, nth, table};

pub(crate) type Init = unsafe extern "C" fn(Appctx, *mut c_void, *mut c_void) -> c_int;
pub(crate) type Act = unsafe extern "C" fn(Appctx);

/// Fields of `struct applet`, in bytes. Where `release` lies differs from version to version.
const NAME: usize = 8;
const INIT: usize = 16;
const FCT: usize = 24;
const RELEASES: [usize; 5] = [64, 56, 48, 40, 32];
/// Longest name of an applet.
const LONGEST_NAME: usize = 40;
/// Numbers of applets begin here, beyond those of the keywords.
pub(crate) const FIRST: usize = FIRST_APPLET as usize;

/// Services of the instrument's own, for which the last places are.
pub(crate) const OWN: usize = 8;

/// What services of the instrument's own do when an applet's function has returned.
pub(crate) struct OwnServices {
    /// After `init` of the applet with this number.
    pub(crate) after_init: unsafe fn(usize, Appctx, &Entry),
    /// After its `release`.
    pub(crate) after_release: unsafe fn(usize, Appctx),
}

/// Set where there are such services.
pub(crate) static OWN_SERVICES: OnceLock<OwnServices> = OnceLock::new();

struct Target {
    init: AtomicUsize,
    fct: AtomicUsize,
    release: AtomicUsize,
}

const ROWS: usize = 8;
const APPLETS: usize = ROWS * ROW;

static TARGETS: [Target; APPLETS] =
    [const { Target { init: AtomicUsize::new(0), fct: AtomicUsize::new(0), release: AtomicUsize::new(0) } };
        APPLETS];

table!(INITS, InitRow, init: Init; 0 1 2 3 4 5 6 7);
table!(FCTS, FctRow, fct: Act; 0 1 2 3 4 5 6 7);
table!(RELEASE_TABLE, ReleaseRow, release: Act; 0 1 2 3 4 5 6 7);
const _: () = assert!(INITS.len() == ROWS && FCTS.len() == ROWS && RELEASE_TABLE.len() == ROWS);

/// Where `release` lies in an applet of this server, and what the first word of one looks like.
#[derive(Clone, Copy, Debug)]
struct Look {
    kind: usize,
    release: usize,
}

static LOOK: OnceLock<Look> = OnceLock::new();
/// The number of the next applet.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Puts trampolines into every applet of the executable, before the configuration is read: what it names is copied then.
pub(crate) fn wrap(instrument: &Instrument) {
    let code = Code::now();
    let (kind, applets) = find(instrument, &code);
    let look = kind.zip(release_offset(&code, &applets)).map(|(kind, release)| Look { kind, release });
    let Some(look) = look else {
        return unwrapped(instrument, b"no applet looks as in any known version");
    };
    LOOK.get_or_init(|| look);
    for applet in applets {
        add(instrument, applet, look);
    }
}

/// Puts trampolines into those that the configuration has made: the rules with services in Lua hold one each, and those of
/// modules lie where the modules do.
pub(crate) fn wrap_made(instrument: &Instrument) {
    let Some(look) = LOOK.get() else { return };
    let code = Code::now();
    let mut made = Vec::new();
    for range in memory::writable() {
        memory::words(&range, |start, words| {
            let is_made = |four: &[usize]| {
                matches!(four, [first, _, init, call] if head(*first) == Some(look.kind)
                    && code.has(*call) && code.has_or_null(*init) && !is_ours(*call))
            };
            let places = words.windows(4).enumerate().filter(|(_, four)| is_made(four));
            made.extend(places.map(|(index, _)| start + 8 * index));
        });
    }
    let is_applet = |applet: &usize| {
        word(applet + look.release).is_some_and(|release| code.has_or_null(release))
            && !name_of(*applet).is_empty()
    };
    for applet in made.into_iter().filter(is_applet) {
        add(instrument, applet, *look);
    }
}

/// One more. The last places are for our own.
fn add(instrument: &Instrument, applet: usize, look: Look) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    if number >= APPLETS - OWN {
        return unwrapped(instrument, b"there are more applets than can be recorded");
    }
    wrap_one(instrument, number, applet, look.release);
}

/// One of our trampolines is here already: it was copied from where it was put.
fn is_ours(fct: usize) -> bool {
    FCTS.iter().flatten().any(|ours| *ours as usize == fct)
}

/// What an applet's first word says it is, if it can be one: the number of the type in the first byte, and flags in the upper
/// half since HAProxy 3.3.
fn head(word: usize) -> Option<usize> {
    const FLAGS: usize = 1 << 16;
    let (kind, flags) = (word & 0xffff_ffff, word >> 32);
    ((1..256).contains(&kind) && flags < FLAGS).then_some(kind)
}

fn name_of(applet: usize) -> Vec<u8> {
    word(applet + NAME).and_then(|name| memory::text(name, LONGEST_NAME)).unwrap_or_default()
}

/// Number of the exporter of metrics, which our own services are copies of.
static EXPORTER: OnceLock<usize> = OnceLock::new();

/// The functions of an applet: `init`, `fct`, `release`, each 0 where there is none.
pub(crate) type Functions = [usize; 3];

fn real_functions(number: usize) -> Option<Functions> {
    let target = TARGETS.get(number)?;
    Some([&target.init, &target.fct, &target.release].map(|slot| slot.load(Ordering::Relaxed)))
}

/// Trampolines of the applet with this number, in the order of [`Functions`].
pub(crate) fn trampolines(number: usize) -> Option<(Init, Act, Act)> {
    Some((nth(INITS, number)?, nth(FCTS, number)?, nth(RELEASE_TABLE, number)?))
}

/// The exporter's own functions; `None` where there is no exporter.
pub(crate) fn exporter() -> Option<Functions> {
    real_functions(*EXPORTER.get()?)
}

/// Number of our n-th own service: from the last place on, downwards.
pub(crate) fn number_of_own(index: usize) -> usize {
    APPLETS.saturating_sub(index + 1)
}

/// Registers an own service, with these functions.
pub(crate) fn add_own(instrument: &Instrument, number: usize, functions: Functions, name: &[u8]) {
    let Some(target) = TARGETS.get(number) else { return };
    let slots =
        [(Callback::Init, &target.init), (Callback::Fct, &target.fct), (Callback::Release, &target.release)];
    let mut callbacks = 0;
    for ((callback, slot), function) in slots.into_iter().zip(functions) {
        slot.store(function, Ordering::Relaxed);
        callbacks |= if function == 0 { 0 } else { callback.bit() };
    }
    let mut note = record(Kind::Layer, 0, 0);
    (note.handle, note.a, note.c) = ((FIRST + number) as u32, callbacks, 1);
    instrument.writer.note(note, &[(Field::Keyword, name)]);
}

/// What stands in an own service in place of this function of the exporter.
pub(crate) fn in_place_of(address: usize, number: usize) -> Option<usize> {
    let exporter = *EXPORTER.get()?;
    let real = real_functions(exporter)?;
    let wrapped =
        trampolines(exporter).map(|(init, fct, release)| [init as usize, fct as usize, release as usize])?;
    let ours =
        trampolines(number).map(|(init, fct, release)| [init as usize, fct as usize, release as usize])?;
    let all = real.into_iter().zip(wrapped).zip(ours);
    all.filter(|((real, wrapped), _)| address != 0 && (address == *real || address == *wrapped))
        .map(|(_, ours)| ours)
        .next()
}

/// What applets are of, and the addresses of what looks like one in the writable data.
fn find(instrument: &Instrument, code: &Code) -> (Option<usize>, Vec<usize>) {
    // What it is shows in the one that is always there.
    let mut found: Vec<(usize, usize, Vec<u8>)> = Vec::new();
    for range in &instrument.image.data {
        for address in range.clone().step_by(8) {
            let Some([first, _, init, fct]) = memory::read::<[usize; 4]>(address) else { continue };
            let Some(kind) = head(first).filter(|_| code.has(fct) && code.has_or_null(init)) else {
                continue;
            };
            let name = name_of(address);
            if !name.is_empty() {
                found.push((kind, address, name));
            }
        }
    }
    let kind = found.iter().find(|(_, _, name)| name == b"<CLI>").map(|(kind, ..)| *kind);
    (kind, found.into_iter().filter(|(one, ..)| Some(*one) == kind).map(|(_, address, _)| address).collect())
}

/// `release` is the last function of the structure: the last place at which every applet has a function or NULL, and
/// several have a function.
fn release_offset(code: &Code, applets: &[usize]) -> Option<usize> {
    const SEVERAL: usize = 3;
    RELEASES.into_iter().find(|offset| {
        let words: Option<Vec<usize>> = applets.iter().map(|applet| word(applet + offset)).collect();
        words.is_some_and(|words| {
            words.iter().all(|word| code.has_or_null(*word))
                && words.iter().filter(|word| **word != 0).count() >= SEVERAL
        })
    })
}

fn wrap_one(instrument: &Instrument, number: usize, applet: usize, release: usize) {
    let Some(target) = TARGETS.get(number) else { return };
    let functions = [
        (Callback::Init, INIT, &target.init, nth(INITS, number).map(|f| f as usize)),
        (Callback::Fct, FCT, &target.fct, nth(FCTS, number).map(|f| f as usize)),
        (Callback::Release, release, &target.release, nth(RELEASE_TABLE, number).map(|f| f as usize)),
    ];
    let mut callbacks = 0;
    for (callback, offset, slot, trampoline) in functions {
        let (Some(real), Some(trampoline)) = (word(applet + offset), trampoline) else { continue };
        if real == 0 {
            continue;
        }
        slot.store(real, Ordering::Relaxed);
        callbacks |= callback.bit();
        // SAFETY: a slot of an applet in the server's writable data; no thread runs yet.
        unsafe { ((applet + offset) as *mut usize).write(trampoline) };
    }
    let name = name_of(applet);
    if name == b"<PROMEX>" {
        EXPORTER.get_or_init(|| number);
    }
    let mut note = record(Kind::Layer, 0, 0);
    (note.handle, note.a) = ((FIRST + number) as u32, callbacks);
    instrument.writer.note(note, &[(Field::Keyword, &name)]);
}

fn target(row: usize, column: usize) -> Option<(&'static Instrument, usize, &'static Target)> {
    let number = row * ROW + column;
    Some((instrument()?, FIRST + number, TARGETS.get(number)?))
}

/// Runs a function of the applet with this number.
fn running<T>(entry: Option<&Entry>, number: usize, real: impl FnOnce() -> T) -> T {
    match entry {
        Some(entry) => entry.running(number, real),
        None => real(),
    }
}

/// Before 2.6 it is passed two arguments more; later versions leave there whatever was.
unsafe extern "C" fn init<const R: usize, const C: usize>(
    appctx: Appctx,
    second: *mut c_void,
    third: *mut c_void,
) -> c_int {
    let Some((instrument, number, target)) = target(R, C) else { return -1 };
    // SAFETY: an init function of the server; it takes what it takes of these arguments.
    let real = unsafe { function::<Init>(target.init.load(Ordering::Relaxed)) };
    let Some(real) = real else { return 0 };
    // SAFETY: the applet's own function, with the server's arguments.
    let real = || unsafe { real(appctx, second, third) };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(instrument, Callback::Init, appctx, number) };
    let entry = call.entry;
    if call.is_within_another() {
        return real();
    }
    call.start();
    let result = running(entry, number, real);
    call.finish(result.into(), false);
    if let (Some(entry), Some(own)) = (entry, OWN_SERVICES.get()) {
        // SAFETY: the server's own argument.
        unsafe { (own.after_init)(R * ROW + C, appctx, entry) };
    }
    result
}

unsafe extern "C" fn fct<const R: usize, const C: usize>(appctx: Appctx) {
    let Some((instrument, number, target)) = target(R, C) else { return };
    // SAFETY: a function of an applet of the server.
    let real = unsafe { function::<Act>(target.fct.load(Ordering::Relaxed)) };
    let Some(real) = real else { return };
    // SAFETY: the applet's own function, with the server's argument.
    let real = || unsafe { real(appctx) };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(instrument, Callback::Fct, appctx, number) };
    let entry = call.entry;
    if call.is_within_another() {
        return real();
    }
    let recorded = call.counted();
    if recorded {
        call.start();
    }
    running(entry, number, real);
    if recorded {
        call.finish(0, false);
    }
    if let Some(entry) = entry {
        // SAFETY: the server's own argument, between two calls of an own service that asks for this.
        unsafe { own::meddle(instrument, appctx, entry) };
    }
}

unsafe extern "C" fn release<const R: usize, const C: usize>(appctx: Appctx) {
    let Some((instrument, number, target)) = target(R, C) else { return };
    // SAFETY: a function of an applet of the server.
    let real = unsafe { function::<Act>(target.release.load(Ordering::Relaxed)) };
    let Some(real) = real else { return };
    // SAFETY: the applet's own function, with the server's argument.
    let real = || unsafe { real(appctx) };
    // SAFETY: the server's own argument.
    let mut call = unsafe { Call::new(instrument, Callback::Release, appctx, number) };
    if call.is_within_another() {
        return real();
    }
    call.start();
    running(call.entry, number, real);
    call.finish(0, true);
    if let Some(own) = OWN_SERVICES.get() {
        // SAFETY: the server's own argument.
        unsafe { (own.after_release)(R * ROW + C, appctx) };
    }
}
