//! When a check has something to say.

/// What the function of a check comes to: `None` where it has had nothing (more) to say. Nobody looks at it but `?`, by which
/// a function ends as soon as something that it speaks of is not there.
pub type Said = Option<()>;

/// Goes on only where this is so: `given(now.is_enter())?`.
pub(in crate::rules) fn given(holds: bool) -> Said {
    holds.then_some(())
}

/// Goes on only where this is not so.
pub(in crate::rules) fn unless(holds: bool) -> Said {
    given(!holds)
}
