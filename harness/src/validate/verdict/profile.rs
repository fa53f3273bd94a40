//! A verdict for each part of what a subject can do.

use super::verdicts::CheckVerdict;
use crate::outcome::{Exit, Verdict};
use crate::validate::checks::check::{Play, Profile};
use crate::validate::play::evidence::Evidence;

/// What is said of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileVerdict {
    /// Claimed; what was judged holds, and something was.
    Conformant,
    /// Claimed, and a promise is broken.
    NotConformant,
    /// The subject does not offer it.
    NotClaimed,
    /// Nothing was judged, for other reasons.
    NotJudged,
    /// Of some of it nothing can be told.
    Inconclusive,
}

impl ProfileVerdict {
    /// As it stands in reports.
    pub fn word(self) -> &'static str {
        match self {
            ProfileVerdict::Conformant => "conformant",
            ProfileVerdict::NotConformant => "not conformant",
            ProfileVerdict::NotClaimed => "not claimed",
            ProfileVerdict::NotJudged => "not judged",
            ProfileVerdict::Inconclusive => "inconclusive",
        }
    }
}

/// A profile, and what its checks say together.
#[derive(Clone, Debug)]
pub struct ProfileResult {
    /// Which.
    pub profile: Profile,
    /// The keyword or service that it is about, of HAProxy.
    pub name: Option<String>,
    /// What is said.
    pub verdict: ProfileVerdict,
    /// Checks that hold.
    pub hold: usize,
    /// Checks that are broken or warn.
    pub broken: usize,
    /// Why nothing was judged, or was not claimed.
    pub reason: Option<String>,
    /// How much it was judged by.
    pub evidence: Evidence,
    /// It is claimed, nothing of it was judged, and that was not to be expected.
    pub missing: bool,
}

impl ProfileResult {
    /// As it stands in reports: the keyword or service, or the part of what plugins and filters can do.
    pub fn word(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.profile.word())
    }
}

/// The verdicts of all profiles that have a check among these.
pub(in crate::validate) fn of(checks: &[CheckVerdict]) -> Vec<ProfileResult> {
    let of_profile = |profile| checks.iter().filter(move |one| one.check.profile == profile);
    let some = Profile::ALL.iter().copied().filter(|profile| of_profile(*profile).next().is_some());
    some.map(|profile| result(profile, &of_profile(profile).collect::<Vec<_>>())).collect()
}

fn result(profile: Profile, checks: &[&CheckVerdict]) -> ProfileResult {
    let count = |words: &[&str]| checks.iter().filter(|one| words.contains(&one.verdict.word())).count();
    let hold = count(&["pass"]);
    let broken = count(&["fail", "crash", "hang"]);
    let warn = count(&["warn"]);
    let unclaimed = checks.iter().find(|one| one.not_claimed);
    // What every case is looked at for, and none has shown, is claimed by nobody.
    let is_unclaimed = |one: &&CheckVerdict| one.not_claimed || matches!(one.check.play, Play::Always);
    let other = checks.iter().find(|one| one.verdict.reason().is_some());
    let open = checks.iter().find(|one| one.verdict.exit() == Exit::Inconclusive);
    let (verdict, reason) = match (broken, hold) {
        (1.., _) => (ProfileVerdict::NotConformant, None),
        _ if open.is_some() => (ProfileVerdict::Inconclusive, reason(open)),
        (0, 1..) => (ProfileVerdict::Conformant, None),
        // A warning alone says nothing good of it.
        (0, 0) if warn > 0 => (ProfileVerdict::NotJudged, None),
        (0, 0) if unclaimed.is_some() && checks.iter().all(is_unclaimed) => {
            (ProfileVerdict::NotClaimed, reason(unclaimed))
        }
        (0, 0) => (ProfileVerdict::NotJudged, reason(other)),
    };
    let mut evidence = Evidence::default();
    checks.iter().for_each(|one| evidence += one.evidence);
    let (verdict, reason) = match evidence.all_alike() {
        // That they are answered is all that can be said of them.
        Some(_) if profile == Profile::Read && verdict == ProfileVerdict::Conformant && other.is_some() => {
            (ProfileVerdict::NotJudged, self::reason(other))
        }
        _ => (verdict, reason),
    };
    let excused = |one: &&CheckVerdict| {
        one.not_claimed
            || matches!(one.verdict, Verdict::Skipped(_))
            // What no case happens to show was not asked for, and neither is a claim that nobody has named.
            || matches!(one.check.play, Play::Always | Play::Claims)
            // A filter that refuses our own plugin is judged over the user's.
            || matches!(
                (&one.check.play, &one.verdict),
                (Play::Filter(_) | Play::Both(..), Verdict::NotApplicable(_))
            )
    };
    let missing = verdict == ProfileVerdict::NotJudged && hold + warn == 0 && !checks.iter().all(excused);
    ProfileResult { profile, name: None, verdict, hold, broken: broken + warn, reason, evidence, missing }
}

fn reason(one: Option<&&CheckVerdict>) -> Option<String> {
    one.and_then(|one| one.verdict.reason()).map(str::to_owned)
}
