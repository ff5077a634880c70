//! Hearing what other sessions change.
//!
//! The scripts publish changes while more than one session is registered. A listener on a
//! connection of its own passes them on; whenever that connection is lost, changes may have been
//! missed: [`Event::Deaf`] says so when it is lost, so that nobody goes on believing old things, and
//! [`Event::Reset`] after it is there again, for what happened in between.

use super::Session;
use crate::error::MetaError;
use crate::shard::Shard;
use crate::types::Event;
use ringfs_base::{Epoch, InodeId, SessionId};
use ringfs_link::Subscriber;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a listener waits before it looks whether it shall stop.
const LOOK_UP_EVERY: Duration = Duration::from_millis(200);
/// Pause between attempts to listen again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Ends the watching when dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.thread().id() == std::thread::current().id() {
                continue; // dropped by its own callback: it ends after this
            }
            if thread.join().is_err() {
                tracing::error!("a thread that listened for changes of other mounts panicked");
            }
        }
    }
}

impl Session {
    /// Calls `on_event` from a thread of its own for each change that another session makes.
    /// Subscribed when this returns; what was cached before must be forgotten then.
    pub fn watch(&self, on_event: Box<dyn Fn(Event) + Send + Sync>) -> Result<Watch, MetaError> {
        let on_event: Arc<dyn Fn(Event) + Send + Sync> = on_event.into();
        let mut watch = Watch { stop: Arc::default(), threads: Vec::new() };
        for of in &self.shards {
            let subscriber = subscribe(&of.shard).map_err(MetaError::Unavailable)?;
            let listener = Listener {
                shard: Arc::clone(&of.shard),
                own: self.id,
                stop: Arc::clone(&watch.stop),
                on_event: Arc::clone(&on_event),
            };
            let thread = std::thread::Builder::new()
                .name("ringfs-watch".into())
                .spawn(move || listener.run(subscriber))
                .map_err(|_| ringfs_base::Errno::EAGAIN)?;
            watch.threads.push(thread);
        }
        Ok(watch)
    }
}

fn subscribe(shard: &Shard) -> Result<Subscriber, ringfs_link::LinkError> {
    let mut subscriber = Subscriber::open(shard.pool.endpoint(), shard.pool.timeouts())?;
    subscriber.subscribe(shard.prefix.key("inv").as_bytes())?;
    Ok(subscriber)
}

struct Listener {
    shard: Arc<Shard>,
    own: SessionId,
    stop: Arc<AtomicBool>,
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Listener {
    fn run(self, first: Subscriber) {
        let mut subscriber = Some(first);
        while !self.stop.load(Ordering::Acquire) {
            let Some(listening) = &mut subscriber else {
                match subscribe(&self.shard) {
                    Ok(fresh) => {
                        subscriber = Some(fresh);
                        (self.on_event)(Event::Reset);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot listen for changes of other mounts yet");
                        std::thread::sleep(RETRY_AFTER);
                    }
                }
                continue;
            };
            match listening.next(LOOK_UP_EVERY) {
                Ok(None) => {}
                Ok(Some(message)) => match decode(&message, self.own) {
                    Some(events) => events.into_iter().for_each(|event| (self.on_event)(event)),
                    None => {
                        tracing::warn!("an unreadable message about changes; caches are emptied");
                        (self.on_event)(Event::Reset);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "lost touch with other mounts; caches are emptied");
                    subscriber = None;
                    (self.on_event)(Event::Deaf);
                }
            }
        }
    }
}

/// Reads a published message: the session, then changes. Nothing if it is the own session's;
/// `None` if it cannot be read.
fn decode(message: &[u8], own: SessionId) -> Option<Vec<Event>> {
    let (sender, mut rest) = message.split_first_chunk::<8>()?;
    let mut events = Vec::new();
    if SessionId::from_bytes(*sender) == own {
        return Some(events);
    }
    while let Some((kind, after)) = rest.split_first() {
        let (number, after) = after.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        rest = after;
        events.push(match kind {
            b'A' => Event::Attr(InodeId(number)),
            b'R' => Event::Ring(Epoch(number)),
            b'E' => {
                let (length, after) = rest.split_first_chunk::<2>()?;
                let (name, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
                rest = after;
                Event::Entry(InodeId(number), name.to_vec())
            }
            b'L' => {
                let (grant, after) = super::locks::decode_grant(rest)?;
                rest = after;
                if SessionId(number) != own {
                    continue;
                }
                Event::Lock(grant)
            }
            _ => return None,
        });
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_and_the_own_ones_left_out() {
        let mut message = 7u64.to_be_bytes().to_vec();
        message.extend(b"A\0\0\0\0\0\0\0\x05E\0\0\0\0\0\0\0\x01\0\x03a}\nR\0\0\0\0\0\0\0\x02");
        let expected = vec![
            Event::Attr(InodeId(5)),
            Event::Entry(InodeId(1), b"a}\n".to_vec()),
            Event::Ring(Epoch(2)),
        ];
        assert_eq!(decode(&message, SessionId(8)), Some(expected));
        assert_eq!(decode(&message, SessionId(7)), Some(vec![]));
        assert_eq!(decode(&message[..message.len() - 1], SessionId(8)), None);
    }

    #[test]
    fn a_grant_is_for_one_session() {
        let mut message = 7u64.to_be_bytes().to_vec();
        message.extend(b"L\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02\0");
        message.extend(b"A\0\0\0\0\0\0\0\x05");
        let (ino, ticket) = (InodeId(5), crate::types::LockTicket(2));
        let grant = Event::Lock(crate::types::LockGrant { ino, ticket, attr: None });
        assert_eq!(decode(&message, SessionId(8)), Some(vec![grant, Event::Attr(ino)]));
        assert_eq!(decode(&message, SessionId(9)), Some(vec![Event::Attr(ino)]));
        assert_eq!(decode(&message[..30], SessionId(8)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            message in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            decode(&message, SessionId(u64::MAX));
        }
    }
}
