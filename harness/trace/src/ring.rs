//! What a writer knows of a trace that wraps, and of the calls that a thread is in.

/// What a writer knows of a trace that wraps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    /// Logarithm of the capacity.
    pub(crate) shift: u32,
    /// Of the calls that each thread is in.
    pub(crate) key: Option<libc::pthread_key_t>,
}

/// Calls that a thread is in at the same time, at most.
const DEEPEST: u32 = usize::BITS - 2;

/// The calls that a thread is in: a bit for each, 1 for one that is recorded, the innermost the lowest; above them a 1.
/// Nothing is 0.
#[derive(Clone, Copy)]
pub(crate) struct Inside(usize);

impl Inside {
    pub(crate) fn innermost(self) -> Option<bool> {
        (self.0 > 1).then_some(self.0 & 1 != 0)
    }

    pub(crate) fn enter(self, recorded: bool) -> Option<Inside> {
        let before = self.0.max(1);
        (before >> DEEPEST == 0).then_some(Inside(before << 1 | usize::from(recorded)))
    }

    pub(crate) fn leave(self) -> Inside {
        Inside(if self.0 > 3 { self.0 >> 1 } else { 0 })
    }
}

impl Ring {
    pub(crate) fn of(capacity: u64, key: Option<libc::pthread_key_t>) -> Ring {
        Ring { shift: capacity.max(1).ilog2(), key }
    }

    /// A key for the calls of each thread of this process; `None` where it has too many.
    pub(crate) fn new_key() -> Option<libc::pthread_key_t> {
        let mut key = 0;
        // SAFETY: the pointer is valid to write to; nothing is to be destroyed.
        (unsafe { libc::pthread_key_create(&raw mut key, None) } == 0).then_some(key)
    }

    pub(crate) fn inside(self) -> Inside {
        // SAFETY: the key was created in this process, or in the one that it was forked from.
        Inside(self.key.map_or(0, |key| unsafe { libc::pthread_getspecific(key) } as usize))
    }

    pub(crate) fn set_inside(self, inside: Inside) {
        if let Some(key) = self.key {
            // SAFETY: as above. It may fail where memory is short; then a call inside another one may be left out.
            let _ = unsafe { libc::pthread_setspecific(key, inside.0 as *const libc::c_void) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_left_in_the_order_in_which_they_were_entered() {
        let none = Inside(0);
        assert_eq!(none.innermost(), None);
        let outer = none.enter(false).unwrap();
        let inner = outer.enter(true).unwrap();
        assert_eq!((outer.innermost(), inner.innermost()), (Some(false), Some(true)));
        assert_eq!((inner.leave().innermost(), inner.leave().leave().innermost()), (Some(false), None));
        assert_eq!(none.leave().innermost(), None, "nobody has entered");
        let deepest = (0..DEEPEST).fold(none, |inside, _| inside.enter(true).unwrap());
        assert!(deepest.enter(true).is_none());
    }
}
