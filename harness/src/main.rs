//! The `layers` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    layers::cli::main()
}
