//! Servers that are no Redis servers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};

/// What the server answers to whatever it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nonsense {
    /// A web server's complaint.
    Http,
    /// Bytes without meaning.
    Garbage,
    /// Nothing; the connection stays open.
    Silence,
    /// A string announced to be far too long.
    HugeLength,
    /// An array announced to be as long as is allowed, of which nothing follows.
    HugeArray,
    /// Arrays in arrays in arrays.
    DeepNesting,
    /// The connection is closed at once.
    Hangup,
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Nonsense {
    fn answer(&self) -> Vec<u8> {
        match self {
            Nonsense::Http => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Nonsense::Garbage => vec![0x16, 0x03, 0xff, 0x00, 0x80, b'\r', b'\n', 0xc3],
            Nonsense::Silence | Nonsense::Hangup => Vec::new(),
            Nonsense::HugeLength => b"$99999999999999\r\n".to_vec(),
            Nonsense::HugeArray => b"*4194303\r\n".to_vec(),
            Nonsense::DeepNesting => b"*1\r\n".repeat(1000),
            Nonsense::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// A server that answers nonsense on a free port of 127.0.0.1.
pub struct NonsenseServer {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl NonsenseServer {
    /// Starts it.
    pub fn start(nonsense: Nonsense) -> NonsenseServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
        let address = listener.local_addr().expect("address");
        let closing = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let acceptor = spawn({
            let (closing, streams) = (Arc::clone(&closing), Arc::clone(&streams));
            move || {
                let mut talks = Vec::new();
                for stream in listener.incoming() {
                    if closing.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    let handle = stream.try_clone().expect("a second handle");
                    streams.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
                    let nonsense = nonsense.clone();
                    talks.push(spawn(move || talk(stream, &nonsense)));
                }
                for talk in talks {
                    talk.join().ok();
                }
            }
        });
        NonsenseServer { address, closing, streams, acceptor: Some(acceptor) }
    }

    /// Its `redis://` URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn talk(mut stream: TcpStream, nonsense: &Nonsense) {
    let mut buffer = [0; 4096];
    if *nonsense == Nonsense::Hangup {
        stream.shutdown(Shutdown::Both).ok();
        return;
    }
    while let Ok(1..) = stream.read(&mut buffer) {
        if stream.write_all(&nonsense.answer()).is_err() {
            return;
        }
    }
}

impl Drop for NonsenseServer {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        TcpStream::connect(self.address).ok();
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}
