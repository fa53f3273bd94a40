//! Clients that drive a server, and write what they ask and are answered into the trace.

pub mod nbd;
