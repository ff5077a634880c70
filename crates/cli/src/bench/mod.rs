//! x
use crate::failure::Failure;
/// x
/// Example:
#[derive(Debug, clap::Args)]
pub struct BenchArguments {}
pub fn run(_a: &BenchArguments) -> Result<(), Failure> { Ok(()) }
