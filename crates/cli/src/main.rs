//! The program `ringfs`. Everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringfs_cli::main()
}
