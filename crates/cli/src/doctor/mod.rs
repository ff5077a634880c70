//! x
use crate::failure::Failure;
/// x
/// Example:
#[derive(Debug, clap::Args)]
pub struct DoctorArguments {}
pub fn run(_a: &DoctorArguments, _s: &crate::output::Surroundings) -> Result<(), Failure> { Ok(()) }
