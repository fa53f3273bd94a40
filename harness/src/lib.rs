//! Test and conformance harness for servers that load other people's callbacks.
