//! What people and programs read: a file a format.

pub mod account;
pub mod buffered;
pub mod catalogue;
pub mod github;
pub mod html;
pub mod human;
pub mod junit;
pub mod ndjson;
pub mod perfetto;
mod reporter;
pub mod snapshot;
pub mod tap;
mod traces;
mod wrapped;

use std::io::Write;

use buffered::Buffered;

pub use reporter::{Begun, Outcome, Reporter};

/// The formats, each with what makes its reporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text for people
    Human,
    /// One JSON object a line
    Ndjson,
    /// JUnit's XML
    Junit,
    /// TAP 13
    Tap,
    /// Annotations on GitHub
    Github,
    /// A summary in Markdown, as GitHub shows it of a step
    Markdown,
    /// One page with the verdicts, the findings and pictures of the runs
    Html,
}

impl Format {
    /// A reporter that writes this format to `to`, which drops the colours where they do not belong.
    pub fn reporter<'a>(self, to: impl Write + 'a) -> Box<dyn Reporter + 'a> {
        match self {
            Format::Human => Box::new(human::Human::new(to)),
            Format::Ndjson => Box::new(ndjson::Ndjson::new(to)),
            Format::Junit => Box::new(Buffered::new(to, junit::write)),
            Format::Tap => Box::new(Buffered::new(to, tap::write)),
            Format::Github => Box::new(Buffered::new(to, github::annotations)),
            Format::Markdown => Box::new(Buffered::new(to, github::summary)),
            Format::Html => Box::new(html::Html::new(to)),
        }
    }

    /// It shows the calls of runs, so that their events must be kept.
    pub fn draws_runs(self) -> bool {
        self == Format::Html
    }
}
