//! That a server could not have what it needs is the system's doing, and nobody's fault.

use std::io;

/// The line in which a server says that the system gives it no more processes, threads or memory.
pub(crate) fn shortage(printed: &str) -> Option<&str> {
    let calls = ["pthread_create", "fork", "clone", "socketpair", "accept"];
    let errors = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(io::Error::from_raw_os_error);
    let texts = errors.map(|error| error.to_string());
    let says = |line: &&str| {
        // As strerror has it, without the number that Rust adds.
        let has = |text: &String| text.split(" (os error").next().is_some_and(|text| line.contains(text));
        // By perror, or by nbdkit_error on a thread that serves nobody yet.
        let said = line.rsplit("nbdkit: ").next().unwrap_or_default();
        let said = said.strip_prefix("error: ").unwrap_or(said);
        let called = |call: &str| said.starts_with(call);
        calls.iter().any(|call| called(call)) && texts.iter().any(has)
    };
    printed.lines().find(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_server_tells_of_a_shortage_and_one_of_a_module_does_not() {
        let of_server = "nbdkit: pthread_create: Resource temporarily unavailable";
        assert_eq!(shortage(&format!("nbdkit: debug: x\n{of_server}\n")), Some(of_server));
        let of_listener = "nbdkit: error: pthread_create: Resource temporarily unavailable";
        assert_eq!(shortage(of_listener), Some(of_listener));
        assert_eq!(shortage("nbdkit: error: layers: Resource temporarily unavailable"), None);
        assert_eq!(shortage("nbdkit: pthread_create: Invalid argument"), None);
    }
}
