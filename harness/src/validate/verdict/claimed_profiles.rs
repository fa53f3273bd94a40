//! What somebody says that a subject claims: a profile that is not claimed any more is a finding, and not one that does not
//! apply.

use super::profile::{ProfileResult, ProfileVerdict};
use crate::validate::checks::check::{Play, Profile};

/// What is said of them.
pub(in crate::validate) enum Said {
    /// They are all claimed.
    Kept,
    /// Of one nothing can be told, for this reason.
    Untold(String),
    /// These are not: what was expected, and what was seen.
    Lost { expected: String, actual: String },
}

/// Compares `claims` with the profiles of a run. `spared`: the subject is opened read-only for want of leave, and so claims
/// nothing that writes.
pub(in crate::validate) fn compare(claims: &[Profile], profiles: &[ProfileResult], spared: bool) -> Said {
    let found = |profile: Profile| profiles.iter().find(|one| one.profile == profile);
    let (mut lost, mut untold) = (Vec::new(), None);
    for profile in claims {
        match found(*profile) {
            None => untold = Some(format!("{profile}: none of its checks is selected")),
            Some(one) if one.verdict == ProfileVerdict::NotClaimed && spared && profile.writes() => {
                untold = Some(format!("{profile}: the subject is opened read-only without --allow-writes"));
            }
            Some(one) if one.verdict == ProfileVerdict::NotClaimed => lost.push(one),
            Some(_) => {}
        }
    }
    if lost.is_empty() {
        return untold.map_or(Said::Kept, Said::Untold);
    }
    let names: Vec<String> = lost.iter().map(|one| one.profile.to_string()).collect();
    let why = |one: &&ProfileResult| {
        let reason = one.reason.as_deref().unwrap_or("it is not claimed");
        format!("{}: {reason}", one.profile)
    };
    let verb = if names.len() == 1 { "is" } else { "are" };
    let expected = format!("{} {verb} claimed (--claim)", names.join(", "));
    Said::Lost { expected, actual: lost.iter().map(why).collect::<Vec<_>>().join("; ") }
}

/// Checks that are judged so.
pub(in crate::validate) fn by_claims(play: &Play) -> bool {
    matches!(play, Play::Claims)
}
