//! nbdkit filter instrument.
