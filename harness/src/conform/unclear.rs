//! Why a scenario says nothing: the causes of exit code 7, which are not the same for whoever has to act on them.

use crate::rules::Trouble;
use crate::scenario::Recording;

/// Why it cannot be told how a scenario went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unclear {
    /// A step went otherwise than its script says.
    Departed,
    /// The server ended with an exit status that the scenario does not expect.
    Ended,
    /// It did not show what it must, so that nothing could have been broken.
    NotShown,
    /// It came to a wait that had been in vain before, and that was cut short.
    Repeated,
    /// Something else killed the server.
    Lost,
    /// The system had no processes, threads, descriptors or memory for the server.
    Environment,
    /// Its trace is not whole.
    Recording,
    /// It was not played: the time was over, or the run was told to stop.
    NotPlayed,
}

impl Unclear {
    /// Why this run, of which it cannot be told how it went, is unclear.
    pub(super) fn of(recording: &Recording) -> Unclear {
        let troubles = &recording.judgement.troubles;
        let lost = |trouble: &Trouble| matches!(trouble, Trouble::Killed(_));
        match (recording.mishaps.is_empty(), troubles.is_empty()) {
            (false, _) => Unclear::Departed,
            (true, false) if troubles.iter().any(lost) => Unclear::Lost,
            (true, false) => Unclear::Recording,
            (true, true) => Unclear::Ended,
        }
    }

    /// What has happened to so many scenarios, in one sentence.
    pub fn sentence(self, scenarios: usize) -> String {
        let (plural, was, is) = if scenarios == 1 { ("", "was", "is") } else { ("s", "were", "are") };
        let many = format!("{scenarios} scenario{plural}");
        match self {
            Unclear::Departed => format!("{many} departed from the script"),
            Unclear::Ended => format!("{many} ended with another exit status than expected"),
            Unclear::NotShown => format!("{many} did not show what the rules need"),
            Unclear::Repeated => {
                format!("{many} {was} not waited for, after the server had hung in the same way")
            }
            Unclear::Lost => format!("{many} lost the server, which something else killed"),
            Unclear::Environment => format!("the system had no more for the server in {many} (see ulimit)"),
            Unclear::Recording => format!("the trace{plural} of {many} {is} not whole"),
            Unclear::NotPlayed => format!("{many} {was} not played"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_sentence_of_its_own() {
        let all = [
            Unclear::Departed,
            Unclear::Ended,
            Unclear::NotShown,
            Unclear::Repeated,
            Unclear::Lost,
            Unclear::Environment,
            Unclear::Recording,
            Unclear::NotPlayed,
        ];
        let sentences: std::collections::BTreeSet<String> = all.iter().map(|one| one.sentence(1)).collect();
        assert_eq!(sentences.len(), all.len());
        assert_eq!(Unclear::Recording.sentence(2), "the traces of 2 scenarios are not whole");
        assert_eq!(Unclear::NotPlayed.sentence(1), "1 scenario was not played");
    }
}
