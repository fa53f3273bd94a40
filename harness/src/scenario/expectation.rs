//! What a run must show besides the absence of faults: that what must not happen could have happened.
//!
//! A rule against overlap holds of every run in which nothing was slow enough to overlap. So the scenarios about thread
//! models say what their runs must show: which rules had to hold, and, where calls may overlap, how far they must have
//! done so. A run that does not show it is inconclusive; it is no fault of the server's.

use std::fmt;

use layers_trace::Callback;

use crate::rules::Judgement;

/// Something that a run must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The rule with this id was put to the test.
    Tested(&'static str),
    /// So many calls of this callback were in progress at the same time.
    AtOnce(Callback, u32),
    /// So many data calls of one connection were in progress at the same time.
    DataAtOnce(u32),
}

impl Expectation {
    /// What the run shows instead; `None` where it shows it, or where nobody looked.
    pub fn shortfall(&self, judgement: &Judgement) -> Option<String> {
        let less = |most: u32, wanted: u32| (most < wanted).then(|| format!("at most {most}"));
        match *self {
            Expectation::Tested(id) => {
                judgement.result(id).filter(|result| result.exercised == 0).map(|_| "it was not".to_owned())
            }
            Expectation::AtOnce(callback, wanted) => less(judgement.history.most_at_once(callback), wanted),
            Expectation::DataAtOnce(wanted) => less(judgement.history.most_data_at_once(), wanted),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Tested(id) => write!(f, "{id} is put to the test"),
            Expectation::AtOnce(callback, calls) => write!(f, "{calls} calls of {callback} at the same time"),
            Expectation::DataAtOnce(calls) => {
                write!(f, "{calls} data calls of one connection at the same time")
            }
        }
    }
}
