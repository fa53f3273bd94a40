//! One page for people, in one file: the verdicts, the findings, and a picture of the calls of each run.
//!
//! Verdicts and findings are written out, and stand there without a script. The runs are data (`picture`) that the page's
//! script draws. What a subject has chosen (names, parameters, exports) goes through the template, which escapes it, or into
//! JSON, where `<` is written as an escape; and the page's policy lets no script run but its own.

mod of_conform;
mod of_trace;
mod of_validate;
mod page;
mod picture;

use std::fmt;
use std::io::{self, Write};

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::page::Page;
use self::picture::Picture;
use super::{Outcome, Reporter};
use crate::outcome::Exit;

pub use of_trace::Traced;

const STYLE: &str = include_str!("style.css");

/// One script, in the order in which its parts need one another.
const SCRIPT: &str = concat!(
    include_str!("run.js"),
    include_str!("view.js"),
    include_str!("drawing.js"),
    include_str!("selection.js"),
    include_str!("calls.js"),
    include_str!("viewer.js"),
    include_str!("grid.js"),
    include_str!("page.js"),
);

/// Writes the page of some recorded runs; the command that does so ends with this code because of them, or whatever they are.
pub fn write(to: &mut impl Write, traces: &[Traced<'_>], code: Option<Exit>) -> io::Result<()> {
    render(to, of_trace::page(traces, code))
}

/// Writes the page of a run, when it is over.
pub struct Html<W> {
    to: W,
    /// One of each set of parameters.
    pages: Vec<Page>,
}

impl<W> fmt::Debug for Html<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Html").finish_non_exhaustive()
    }
}

impl<W: Write> Html<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Html<W> {
        Html { to, pages: Vec::new() }
    }
}

impl<W: Write> Reporter for Html<W> {
    fn end(&mut self, outcome: Outcome<'_>) -> io::Result<()> {
        match outcome {
            Outcome::Server(plan, conformance) => render(&mut self.to, of_conform::page(plan, conformance)),
            Outcome::Modules(validation, files) => {
                self.pages.push(of_validate::page(validation, files));
                Ok(())
            }
            Outcome::Traces(account) => {
                let traced: Vec<Traced<'_>> = account.servers.iter().map(|one| one.traced).collect();
                write(&mut self.to, &traced, Some(account.exit))
            }
        }
    }

    fn close(&mut self, exit: Exit) -> io::Result<()> {
        let page = Page::of_sets(std::mem::take(&mut self.pages), exit);
        page.map_or(Ok(()), |page| render(&mut self.to, page))
    }
}

#[derive(Template)]
#[template(path = "page.html")]
struct Document {
    page: Page,
    style: &'static str,
    script: &'static str,
    policy: String,
    version: &'static str,
    runs: Vec<String>,
}

fn render(to: &mut impl Write, page: Page) -> io::Result<()> {
    let runs: io::Result<Vec<String>> = page.runs.iter().map(data).collect();
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    let version = env!("CARGO_PKG_VERSION");
    let document = Document { page, style: STYLE, script: SCRIPT, policy, version, runs: runs? };
    document.write_into(to).map_err(io::Error::other)?;
    to.flush()
}

/// A run as JSON that can stand in a page.
fn data(run: &page::Run) -> io::Result<String> {
    let json = serde_json::to_string(&Picture::of(&run.name, &run.events))?;
    Ok(json.replace('<', "\\u003c"))
}

/// As a policy names what may run.
fn digest(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!("sha256-{}", STANDARD.encode(hash))
}
