//! What tests of all crates share: real Redis servers, and ways to break them.
//!
//! [`redis`] starts servers that die with the test; [`proxy`] stands between a client and a server
//! and cuts, blocks, delays, counts and records; [`nonsense`] answers as no Redis server would;
//! [`certs`] makes certificates, good and bad ones; [`model`] says what a file system must do;
//! [`history`] tells whether concurrent operations took effect one by one; [`chaos`] breaks a whole
//! mounted volume for minutes or hours and judges what comes of it. A fixture that cannot do its
//! work panics: a test has no use for an error.

pub mod certs;
pub mod chaos;
pub mod history;
pub mod model;
pub mod nonsense;
pub mod proxy;
pub mod redis;
mod spawn;

pub use certs::CertKind;
pub use nonsense::{Nonsense, NonsenseServer};
pub use proxy::{Direction, Proxy};
pub use redis::{AclUser, AppendFsync, RedisServer, ServerOptions, TlsOptions};
