//! Everything that RingFS knows about speaking to a Redis (or Valkey) server.
//!
//! A command is one blocking round trip on a connection that the calling thread has to itself:
//! one write system call, one read system call, no other thread woken. Parallelism over servers
//! comes from [`gather`], which writes to all sockets and then reads from all of them under one
//! deadline, still from the one calling thread.
//!
//! From the bottom up: [`Endpoint`] says where a server is and how to prove who we are;
//! `transport` is the socket, plain or TLS; [`Cmd`] and `decode` are the wire format in both
//! directions; [`Conn`] is one connection; [`Pool`] keeps idle connections and a gate that fails at
//! once while a server is known to be dead; [`Script`] runs server-side scripts by their hash;
//! [`Subscriber`] listens to a channel.
//!
//! This crate never repeats a command that may have been executed. It says precisely what is
//! known (see [`LinkError::not_sent`] and [`LinkError::outcome_unknown`]); whether repeating is safe
//! is known only above.
#![forbid(unsafe_code)]

mod bystander;
mod cmd;
mod conn;
mod decode;
mod endpoint;
mod error;
mod faults;
mod gather;
mod pool;
mod reply;
mod script;
mod secret;
mod subscriber;
mod tls;
mod transport;

pub use bystander::{Bystander, about_to_wait, about_to_work, set_bystander};
pub use cmd::Cmd;
pub use conn::{Conn, ServerKind, ServerVersion, Timeouts};
#[cfg(feature = "fuzzing")]
pub use decode::decode_all;
pub use decode::{AGGREGATE_ITEMS_MAX, BULK_BYTES_MAX, NESTING_MAX, REPLY_BYTES_MAX};
pub use endpoint::{Endpoint, EndpointError, TlsFiles};
pub use error::{LinkError, ServerName};
pub use faults::{Fault, Faults};
pub use gather::{Job, gather, gather_jobs, gather_some, wait_any};
pub use pool::{Health, IDLE_CONNECTIONS_MAX, Pool, PooledConn};
pub use reply::Reply;
pub use script::Script;
pub use secret::Secret;
pub use subscriber::Subscriber;
