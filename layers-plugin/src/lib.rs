//! nbdkit plugin instrument.
