//! Changes that no rule can reject, because nothing that is promised has changed: the classes of them, each with its reason.
//! docs/self-test.md has the same list. A change that survives and is in none of these classes fails the test.

use layers::history::End;
use layers::run::Run;
use layers::version::Version;
use layers_trace::{Callback, Event, Kind};

use super::generated::{Field, Mutant, Operator, halves, is_request};
use super::recorded::Recorded;

/// Bytes of the longest name of an export.
const LONGEST_NAME: usize = 4096;

/// A class of changes.
pub(crate) struct Class {
    /// What is changed.
    pub(crate) name: &'static str,
    /// Why nobody can tell.
    pub(crate) why: &'static str,
    holds: fn(&Mutant<'_>) -> bool,
}

/// All of them; the first that a change is in is its class.
pub(crate) const CLASSES: &[Class] = &[
    Class {
        name: "the client's log",
        why: "what a client asks, and when, is its own affair",
        holds: |mutant| is_request(mutant.event),
    },
    Class {
        name: "the harness's signals",
        why: "when the harness signals is its own affair",
        holds: |mutant| mutant.event.kind == Kind::Signal,
    },
    Class {
        name: "a filter's log",
        why: "what a reference filter says that it asks is the harness's own record; rules about contexts read some of it",
        holds: |mutant| matches!(mutant.event.kind, Kind::Ask | Kind::Answer),
    },
    Class {
        name: "a probe",
        why: "nobody promises that an instrument looks, or when, or how often; only what it sees is promised",
        holds: |mutant| mutant.event.kind == Kind::Probe && !denies(mutant),
    },
    Class {
        name: "an argument that the callback does not have",
        why: "the field of the record is empty, and no rule reads it",
        holds: |mutant| {
            mutant.event.kind == Kind::Enter && field(mutant).is_some_and(|field| !takes(mutant, field))
        },
    },
    Class {
        name: "an address",
        why: "buffers, lists and contexts lie anywhere; rules compare an address only where it must come again",
        holds: |mutant| mutant.event.kind == Kind::Enter && is_address(mutant),
    },
    Class {
        name: "nxdata of config and config_complete",
        why: "the manual leaves open what it is (ptr.backend.config-unrelated)",
        holds: |mutant| {
            let configures = matches!(callback(mutant), Callback::Config | Callback::ConfigComplete);
            configures && field(mutant) == Some(Field::Context)
        },
    },
    Class {
        name: "a field that an exit does not have",
        why: "the record leaves it empty, or repeats what the enter had",
        holds: |mutant| {
            mutant.event.kind == Kind::Exit && field(mutant).is_some_and(|field| !gives(mutant, field))
        },
    },
    Class {
        name: "errno, or an error beside success",
        why: "errno is left over from anything, and an error number means something only where a call fails",
        holds: |mutant| {
            let left_over = match field(mutant) {
                Some(Field::C) => true,
                Some(Field::D) => mutant.event.result() >= 0 || mutant.event.layer == 0,
                _ => false,
            };
            mutant.event.kind == Kind::Exit && left_over
        },
    },
    Class {
        name: "a result that is no failure",
        why: "-1 is failure; what else a callback returns means the same as 0",
        holds: |mutant| {
            let value = !callback(mutant).is_query() && callback(mutant) != Callback::ThreadModel;
            mutant.event.kind == Kind::Exit && value && field(mutant) == Some(Field::A) && !fails(mutant)
        },
    },
    Class {
        name: "an answer",
        why: "what a layer answers is its own to choose, and here nothing follows from it",
        holds: |mutant| {
            let answers = callback(mutant).is_query() || callback(mutant) == Callback::ThreadModel;
            mutant.event.kind == Kind::Exit && answers && field(mutant) == Some(Field::A) && !fails(mutant)
        },
    },
    Class {
        name: "what an instrument saw, or counted",
        why: "the bytes that a client writes, and how many entries a list has, are theirs to choose",
        holds: |mutant| mutant.event.kind == Kind::Exit && field(mutant) == Some(Field::B),
    },
    Class {
        name: "a question that has failed",
        why: "a failure is not remembered, so who wants to know asks again (nego.error-not-cached)",
        holds: |mutant| {
            let again = matches!(mutant.operator, Operator::Double) && callback(mutant).is_query();
            again
                && halves(&mutant.from.trace, mutant.place)
                    .iter()
                    .any(|place| mutant.from.trace[*place].result() < 0)
        },
    },
    Class {
        name: "what the client wants to know, at the outermost layer",
        why: "block_size and export_description are asked only on request, but nobody promises that they are",
        holds: |mutant| {
            let asked = matches!(callback(mutant), Callback::BlockSize | Callback::ExportDescription);
            asked && matches!(mutant.operator, Operator::Drop | Operator::Double)
        },
    },
    Class {
        name: "a name that is too long",
        why: "beyond 4096 bytes the name of a default export is refused, whatever it says",
        holds: |mutant| {
            let names = callback(mutant) == Callback::DefaultExport && field(mutant) == Some(Field::Texts);
            names && mutant.event.texts.iter().any(|text| text.cut || text.bytes.len() > LONGEST_NAME)
        },
    },
    Class {
        name: "how often a thread model is asked for, where nobody is served",
        why: "--dump-plugin and --help promise nothing of it",
        holds: |mutant| {
            let again = mutant.operator == Operator::Double && callback(mutant) == Callback::ThreadModel;
            again && run(mutant.from).is_some_and(|run| !run.start.serves())
        },
    },
    Class {
        name: "a question that is asked sooner",
        why: "an answer is remembered, so it may be asked for early (nego.once-per-handle), and is known where it is needed",
        holds: |mutant| {
            moves(mutant) && callback(mutant).is_query() && mutant.to < mutant.place && is_inside(mutant)
        },
    },
    Class {
        name: "a finalize before no close",
        why: "it is owed before the close, and this server never closes the handle, which is what the recording breaks",
        holds: |mutant| {
            let drops = mutant.operator == Operator::Drop && callback(mutant) == Callback::Finalize;
            let later = mutant.from.trace.get(mutant.place..).unwrap_or_default();
            drops
                && !later.iter().any(|event| {
                    event.callback() == Some(Callback::Close) && event.handle == mutant.event.handle
                })
        },
    },
    Class {
        name: "the last finalize",
        why: "that it fails keeps filters further in from theirs, and the client from going on; here neither is left",
        holds: |mutant| {
            use Callback::{Close, DefaultExport, Finalize, ListExports, Open};
            let fails = callback(mutant) == Finalize && field(mutant) == Some(Field::A) && fails(mutant);
            let later = mutant.from.trace.get(mutant.place..).unwrap_or_default();
            let own = later.iter().filter(|event| event.tid == mutant.event.tid);
            let mut next = own.filter(|event| event.kind == Kind::Enter).filter_map(Event::callback);
            fails
                && next.next() == Some(Close)
                && !next.any(|other| [DefaultExport, Finalize, ListExports, Open].contains(&other))
        },
    },
    Class {
        name: "below a filter of which nothing is known",
        why: "what a filter asks of the layers below, and when, and on which thread, is its own affair",
        holds: below_unknown,
    },
    Class {
        name: "a request on another thread",
        why: "under PARALLEL any thread may serve a request",
        holds: |mutant| mutant.operator == Operator::Thread && callback(mutant).is_data(),
    },
    Class {
        name: "a stack that does not see the end",
        why: "without cleanup and unload nobody can tell that a run has been cut off",
        holds: |mutant| {
            let ends = Callback::Cleanup.bit() | Callback::Unload.bit();
            let mut layers = mutant.from.trace.iter().filter(|event| event.kind == Kind::Layer);
            mutant.operator == Operator::Cut && !layers.any(|layer| layer.a & ends != 0)
        },
    },
    Class {
        name: "a layer that may end the process",
        why: "of somebody else's layer nobody knows that it does not, in any of its calls",
        holds: |mutant| {
            mutant.operator == Operator::Cut && run(mutant.from).is_some_and(|run| !run.never_exits)
        },
    },
    Class {
        name: "the order of loads, unloads and thread models",
        why: "the manual leaves it open (lifecycle.load.order, lifecycle.unload.order; thread models before 1.44)",
        holds: |mutant| {
            use Callback::{Load, ThreadModel, Unload};
            let serves = run(mutant.from).is_none_or(|run| run.start.serves());
            let any = |other| [Load, ThreadModel, Unload].contains(&other);
            let same = || any(callback(mutant)) && only_passes(mutant, |other| other == callback(mutant));
            moves(mutant) && (same() || !serves && only_passes(mutant, any))
        },
    },
    Class {
        name: "the order of questions",
        why: "the manual leaves open what is asked first (nego.complete-set)",
        holds: |mutant| moves(mutant) && only_passes(mutant, Callback::is_query),
    },
    Class {
        name: "the order of different threads",
        why: "what threads and clients do comes in any order, unless a rule says otherwise",
        holds: |mutant| moves(mutant) && passes(mutant).next().is_none(),
    },
    Class {
        name: "a start that fails",
        why: "a server that does not come to serve may stop anywhere, and then owes nothing more",
        holds: |mutant| fails_to_start(mutant.from) && !matches!(mutant.operator, Operator::Field(_)),
    },
    Class {
        name: "a server that is killed",
        why: "after SIGKILL or a crash nothing is owed",
        holds: |mutant| is_killed(mutant.from) && !matches!(mutant.operator, Operator::Field(_)),
    },
];

/// The class of this change, which no rule rejects.
pub(crate) fn class(mutant: &Mutant<'_>) -> Option<&'static Class> {
    CLASSES.iter().find(|class| (class.holds)(mutant))
}

fn callback(mutant: &Mutant<'_>) -> Callback {
    mutant.event.callback().unwrap_or(Callback::Load)
}

fn field(mutant: &Mutant<'_>) -> Option<Field> {
    match mutant.operator {
        Operator::Field(field) => Some(field),
        _ => None,
    }
}

fn run(recorded: &Recorded) -> Option<Run> {
    let text = recorded.trace[0].text(layers_trace::Field::Json)?;
    serde_json::from_slice(&text.bytes).unwrap()
}

/// Where it has been moved to it is inside a call on its own thread.
fn is_inside(mutant: &Mutant<'_>) -> bool {
    let before = mutant.from.trace.get(..mutant.to).unwrap_or_default();
    let own = before.iter().filter(|event| event.tid == mutant.event.tid);
    let depth = own.fold(0, |depth, event| match event.kind {
        Kind::Enter => depth + 1,
        Kind::Exit => depth - 1,
        _ => depth,
    });
    depth > 0
}

/// Some filter further out is not known to hand on what it is asked.
fn below_unknown(mutant: &Mutant<'_>) -> bool {
    let Some(run) = run(mutant.from) else { return false };
    use Callback::{Config, ConfigComplete, Finalize, Pread, Prepare};
    let callback = callback(mutant);
    let asked = match callback {
        Prepare | Finalize | Callback::Close => Pread,
        Config | ConfigComplete => callback,
        callback if callback.is_connected() => callback,
        _ => return false,
    };
    let known = |layer: u8| run.hands_on.get(usize::from(layer) - 1).copied().unwrap_or_default();
    (mutant.event.layer + 1..=run.filters).any(|layer| known(layer) & asked.bit() == 0)
}

/// The event as the change leaves it.
fn changed<'a>(mutant: &'a Mutant<'_>) -> Option<&'a Event> {
    mutant.trace.iter().find(|event| event.position == mutant.event.position)
}

/// The change makes a failure of it, or it was one.
fn fails(mutant: &Mutant<'_>) -> bool {
    let pointer =
        matches!(callback(mutant), Callback::Open | Callback::DefaultExport | Callback::ExportDescription);
    let fails = |event: &Event| if pointer { event.a == 0 } else { event.result() < 0 };
    fails(mutant.event) || changed(mutant).is_some_and(fails)
}

/// The change makes the probe say that something is not as promised.
fn denies(mutant: &Mutant<'_>) -> bool {
    mutant.event.a != 0 && changed(mutant).is_some_and(|event| event.a == 0)
}

/// The callback has an argument there (see the table of [`Event`]).
fn takes(mutant: &Mutant<'_>, field: Field) -> bool {
    use Callback::{
        AfterFork, Cleanup, Close, Config, DefaultExport, Flush, GetReady, ListExports, Open, Preconnect,
        Prepare, ThreadModel,
    };
    let (callback, is_filter) = (callback(mutant), mutant.event.layer > 0);
    let data = callback.is_data();
    match field {
        Field::A => {
            let told = callback == ThreadModel && mutant.from.version >= Version(1, 43, 0);
            data && callback != Flush || is_filter && (told || callback == GetReady)
        }
        Field::B => data || is_filter && callback == Open,
        Field::C => data && callback != Flush || matches!(callback, Open | ListExports | DefaultExport),
        Field::D => data || matches!(callback, Open | ListExports | DefaultExport | Preconnect | Prepare),
        Field::Context => {
            let has_next = callback.has_handle() && callback != Close;
            let backend = matches!(callback, AfterFork | Cleanup | Preconnect | ListExports | DefaultExport);
            is_filter && (has_next || backend || matches!(callback, Open | Config | Callback::ConfigComplete))
        }
        Field::Layer | Field::Handle | Field::Texts => true,
    }
}

fn is_address(mutant: &Mutant<'_>) -> bool {
    match field(mutant) {
        Some(Field::B) => callback(mutant).is_data(),
        Some(Field::Context) => callback(mutant) == Callback::Open,
        _ => false,
    }
}

/// The exit says something there.
fn gives(mutant: &Mutant<'_>, field: Field) -> bool {
    use Callback::{BlockSize, Cleanup, Close, Extents, ListExports, Load, Open, Pwrite, Unload};
    let callback = callback(mutant);
    match field {
        Field::A => !matches!(callback, Load | Unload | Close | Cleanup | Callback::DumpPlugin),
        Field::B => matches!(callback, BlockSize | ListExports | Extents | Pwrite),
        Field::Context => false,
        Field::D => callback.is_data() || callback == BlockSize,
        Field::Handle => callback == Open || callback.has_handle(),
        Field::C | Field::Layer | Field::Texts => true,
    }
}

fn moves(mutant: &Mutant<'_>) -> bool {
    matches!(mutant.operator, Operator::Swap | Operator::Move)
}

/// What of the same thread, and of no client, lies on the way of an event that is moved.
fn passes<'a>(mutant: &'a Mutant<'_>) -> impl Iterator<Item = &'a Event> {
    // What is moved comes in front of the event that was there; neighbours change places.
    let between = match mutant.operator {
        Operator::Move if mutant.to > mutant.place => mutant.place..mutant.to,
        _ => mutant.place.min(mutant.to)..mutant.place.max(mutant.to) + 1,
    };
    let between = mutant.from.trace.get(between).unwrap_or_default();
    between.iter().filter(|event| {
        let other = event.call != mutant.event.call || !matches!(event.kind, Kind::Enter | Kind::Exit);
        let note =
            matches!(event.kind, Kind::Request | Kind::Reply | Kind::Probe | Kind::Layer | Kind::Signal);
        other && event.tid == mutant.event.tid && !note
    })
}

/// It and all that it passes are calls of such callbacks.
fn only_passes(mutant: &Mutant<'_>, test: impl Fn(Callback) -> bool) -> bool {
    let is =
        |event: &Event| event.callback().is_some_and(&test) || matches!(event.kind, Kind::Ask | Kind::Answer);
    is(mutant.event) && passes(mutant).all(is)
}

fn end(recorded: &Recorded) -> Option<End> {
    let end = recorded.trace.iter().find(|event| event.kind == Kind::End)?;
    let status = end.a as i32;
    Some(if status & 0x7f == 0 { End::Exited(status >> 8) } else { End::Killed(status & 0x7f) })
}

fn is_killed(recorded: &Recorded) -> bool {
    matches!(end(recorded), Some(End::Killed(_)))
}

/// It ends with an error before it serves anybody.
fn fails_to_start(recorded: &Recorded) -> bool {
    let serves = recorded.trace.iter().any(|event| event.callback().is_some_and(Callback::is_connected));
    !serves && matches!(end(recorded), Some(End::Exited(1..)))
}

#[test]
fn the_page_has_every_class() {
    let page = std::fs::read_to_string(super::recorded::root().join("docs/self-test.md")).unwrap();
    let lines = CLASSES.iter().map(|class| format!("- **{}**: {}.\n", class.name, class.why));
    let missing: Vec<String> = lines.filter(|line| !page.contains(line)).collect();
    assert!(missing.is_empty(), "docs/self-test.md lacks:\n{}", missing.concat());
}
