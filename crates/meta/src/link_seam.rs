//! Stands in for `ringfs-link` until that crate is merged; same names.
#![allow(missing_docs, dead_code, reason = "replaced by the real crate")]

#[derive(Debug, Clone)]
pub struct Endpoint;
#[derive(Debug, Clone, Default)]
pub struct Timeouts;
#[derive(Debug, thiserror::Error)]
#[error("link")]
pub struct LinkError;
impl LinkError {
    pub fn is_oom(&self) -> bool {
        false
    }
}
