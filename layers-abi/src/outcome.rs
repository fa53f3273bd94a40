//! The results of callbacks, and what becomes of a call when its target has returned one.

use crate::call::Call;
use crate::{errno, midway, system};

/// The result of a callback.
pub trait Outcome: Copy {
    /// What a callback returns when it fails.
    const FAILED: Self;

    /// It is that.
    fn is_failure(self) -> bool;

    /// Notes it in the record of the exit.
    ///
    /// # Safety
    ///
    /// `self` is what the target returned in the call that is being recorded.
    unsafe fn note(self, call: &mut Call<'_>);
}

impl Call<'_> {
    /// The target has returned this.
    #[inline]
    pub fn returned<R: Outcome>(&mut self, result: R) {
        self.errno = errno::get();
        self.failed = result.is_failure();
        if self.failed && self.layer.number == 0 && self.callback.is_data() {
            self.exit.d = errno::told().cast_unsigned();
        }
        // SAFETY: `result` is what the target has just returned.
        unsafe { result.note(self) };
        if let (Some(pauses), Some(outside)) = (self.pauses(), self.outside.take()) {
            midway::leave(outside);
            pauses.after();
        }
        let before = self.before.take();
        if let Some(durable) = before.and_then(|before| system::leave(before, self.failed)) {
            self.probe_durable(durable);
        }
    }
}
