//! Shows a run, and says what became of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use layers_trace::{Reader, Writer};

use super::super::failure::Failure;
use super::super::output::complain;
use super::super::reports::{self, Opened, Streams};
use crate::campaign::halt::Limit;
use crate::conform::{is_cut, verdict_of_troubles};
use crate::outcome::{Exit, Verdict};
use crate::report::html::{self, Traced};
use crate::report::perfetto;
use crate::rules::{self, Judgement};
use crate::server::interrupt;
use crate::tree::tree;

/// What is shown of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Picture {
    /// The calls as a tree
    Tree,
    /// A trace for ui.perfetto.dev
    Perfetto,
    /// One page with a picture of the calls, and what the rules say of them
    Html,
}

impl Streams for Picture {}

/// Shows a run in all these ways; those that can be written are, whatever becomes of the others.
pub(super) fn show(pictures: Vec<Opened<Picture>>, run: &Traced<'_>) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for (picture, mut to, mut place) in pictures {
        let written = match picture {
            Picture::Tree => write!(to, "{}", tree(run.events)),
            Picture::Perfetto => perfetto::write(&mut to, run.events),
            Picture::Html => html::write(&mut to, &[*run], None),
        };
        let written = written.and_then(|()| to.flush()).map_err(|error| place.failure(error));
        let placed = written.and_then(|()| place.finish());
        outcome = outcome.and(placed.map_err(|error| reports::unwritten(&error)));
    }
    outcome
}

/// What the run is said to be, if it had all its time: of what has not come about by the end of that nothing is known.
pub(super) fn in_time(verdict: Verdict, limit: Limit) -> Verdict {
    match (&verdict, limit.reached()) {
        (Verdict::Hang(_) | Verdict::Inconclusive(_), Some(halt)) => Verdict::Inconclusive(halt.reason()),
        _ => verdict,
    }
}

/// Says what went astray, if anything did, and gives the exit code for it.
pub(super) fn said(verdict: &Verdict) -> Exit {
    interrupt::wait_for_the_end();
    if let Some(reason) = verdict.reason() {
        complain(format!("{}: {reason}", verdict.word()));
    }
    verdict.exit()
}

/// Says where the trace could not be kept, if it could not: what it shows is shown by then.
pub(super) fn kept(saved: io::Result<()>, path: Option<&Path>) -> Result<(), Failure> {
    saved.map_err(|error| {
        let shown = path.unwrap_or(Path::new("")).display();
        Failure::new(Exit::Harness, format!("cannot keep the trace in `{shown}`: {error}"))
    })
}

/// Ends a run in which the server does not get ready.
pub(super) fn not_ready(limit: Limit) -> Result<Exit, Failure> {
    let hang = Verdict::Hang("the server does not get ready".to_owned());
    Ok(said(&in_time(hang, limit)))
}

/// Shows what is in a trace, and says what became of the server: what hung, if anything did, or what the trace tells.
pub(super) fn show_trace(
    pictures: Vec<Opened<Picture>>,
    trace: &Arc<Writer>,
    hung: Option<Verdict>,
) -> Result<Verdict, Failure> {
    // The rules are asked only where what they say is shown.
    let judged = pictures.iter().any(|(picture, ..)| *picture == Picture::Html);
    let judgement = rules::judge(&Reader::of(trace), rules::all().filter(|_| judged));
    show_judged(pictures, trace, &judgement, hung)
}

/// The same of a trace that has been judged.
pub(super) fn show_judged(
    pictures: Vec<Opened<Picture>>,
    trace: &Arc<Writer>,
    judgement: &Judgement,
    hung: Option<Verdict>,
) -> Result<Verdict, Failure> {
    let events = Reader::of(trace).events().flatten().collect();
    // What has not come about behind the last record of a full trace is not known.
    let hung = hung.filter(|hung| !(matches!(hung, Verdict::Hang(_)) && is_cut(&judgement.troubles)));
    let verdict = hung.or_else(|| verdict_of_troubles(&judgement.troubles)).unwrap_or(Verdict::Pass);
    show(pictures, &Traced { name: "trace", judgement, events: &events, verdict: &verdict })?;
    Ok(verdict)
}
