//! Whatever HAProxy answers, it is an HTTP answer, the answer to a command, or an error.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use layers::client::haproxy_cli::CliClient;
use layers::client::http::Http;
use layers::deadline::Deadline;
use layers::trace::Writer;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

/// What a server may send at once before anybody reads.
const MOST: usize = 1 << 16;

fn client(bytes: &[u8]) -> CliClient {
    let memory = File::from(memfd_create("trace", MemfdFlags::CLOEXEC).unwrap());
    let trace = Arc::new(Writer::create(&memory, 1 << 8, 1).unwrap());
    let (ours, mut server) = UnixStream::pair().unwrap();
    server.write_all(&bytes[..bytes.len().min(MOST)]).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    CliClient::connected(1, ours, trace, Deadline::after(Duration::from_secs(2)))
}

fuzz_target!(|bytes: &[u8]| {
    let (mut asking, mut http) = (client(bytes), Http::default());
    while http.response(&mut asking).is_ok() {}
    let mut asking = client(bytes);
    while asking.read_until(b"\n\n").is_ok() {}
    let _ = client(bytes).read_to_end();
});
