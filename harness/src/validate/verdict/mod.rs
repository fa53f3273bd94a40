//! What is said of a subject: verdicts for checks, rules and profiles, held against what is known of it.

pub(super) mod claimed_profiles;
pub(super) mod profile;
pub(super) mod standing;
pub(super) mod validation;
pub(super) mod verdicts;
