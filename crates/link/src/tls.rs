//! TLS as a client: whom we trust, and a session that takes and gives bytes without blocking by
//! itself, so that it fits the same calls as a plain socket.

use crate::endpoint::{Endpoint, TlsFiles};
use crate::error::LinkError;
use rustix::buffer::spare_capacity;
use rustix::fd::BorrowedFd;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fmt;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Encrypted bytes are taken from the kernel in pieces up to this, four TLS records.
const CIPHERTEXT_BYTES: usize = 64 << 10;
/// Plain bytes that a session takes before they are encrypted and handed to the kernel.
const PLAINTEXT_BYTES_MAX: usize = 256 << 10;

/// The files, and what was read from them once. Clones share it, so that connections of one pool
/// resume each other's sessions.
#[derive(Clone, Default)]
pub(crate) struct TlsSetup {
    files: TlsFiles,
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl TlsSetup {
    pub(crate) fn new(files: TlsFiles) -> TlsSetup {
        TlsSetup { files, config: Arc::default() }
    }

    pub(crate) fn files(&self) -> &TlsFiles {
        &self.files
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        // Two threads may both read the files; either result serves.
        let made = Arc::new(build(&self.files)?);
        Ok(Arc::clone(self.config.get_or_init(|| made)))
    }
}

impl PartialEq for TlsSetup {
    fn eq(&self, other: &TlsSetup) -> bool {
        self.files == other.files
    }
}

impl Eq for TlsSetup {}

impl fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

fn build(files: &TlsFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(path) => {
            for cert in certificates(path)? {
                roots
                    .add(cert)
                    .map_err(|e| format!("{} holds no authority: {e}", path.display()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            // Some systems have a broken certificate among many good ones.
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(
                    "the system has no trusted authorities; name a file with cacert=".into()
                );
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("the private key {} cannot be read: {e}", key.display()))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|e| {
                format!("{} and {} cannot be used: {e}", cert.display(), key.display())
            })
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err("a client certificate needs both cert= and key=".into()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |e: &dyn fmt::Display| {
        format!("the certificate file {} cannot be read: {e}", path.display())
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|e| bad(&e))?
        .collect::<Result<_, _>>()
        .map_err(|e| bad(&e))?;
    if certs.is_empty() { Err(bad(&"it holds no certificate")) } else { Ok(certs) }
}

/// A TLS session over a socket that is passed to each call.
pub(crate) struct TlsSession {
    session: ClientConnection,
    /// Encrypted bytes that the session has not taken yet, from `taken` on.
    ciphertext: Vec<u8>,
    taken: usize,
    /// Decrypted bytes were left behind by the last receive.
    plain_left: bool,
}

impl TlsSession {
    /// A session whose handshake has not begun.
    pub(crate) fn new(ep: &Endpoint, setup: &TlsSetup) -> Result<TlsSession, LinkError> {
        let fail = |cause: String| LinkError::Tls { server: ep.name().clone(), cause };
        let host =
            ep.host().ok_or_else(|| fail("a Unix socket has no host name to verify".into()))?;
        let host = ServerName::try_from(host.to_owned()).map_err(|e| fail(e.to_string()))?;
        let config = setup.config().map_err(fail)?;
        let mut session = ClientConnection::new(config, host).map_err(|e| fail(e.to_string()))?;
        session.set_buffer_limit(Some(PLAINTEXT_BYTES_MAX));
        Ok(TlsSession {
            session,
            ciphertext: Vec::with_capacity(CIPHERTEXT_BYTES),
            taken: 0,
            plain_left: false,
        })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Bytes may be had without the socket. Whoever has received until nothing came, as all our
    /// waits do, finds none here.
    pub(crate) fn has_buffered(&self) -> bool {
        self.taken < self.ciphertext.len() || self.plain_left
    }

    /// Takes plain bytes, and hands on encrypted ones while the socket takes them.
    pub(crate) fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        parts: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        let mut taken = self.session.writer().write_vectored(parts)?;
        match self.flush(fd, flags) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && taken > 0 => return Ok(taken),
            other => other?,
        }
        if taken == 0 {
            taken = self.session.writer().write_vectored(parts)?;
        }
        Ok(taken)
    }

    pub(crate) fn flush(&mut self, fd: BorrowedFd<'_>, flags: SendFlags) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Out { fd, flags })?;
        }
        Ok(())
    }

    /// Appends decrypted bytes to `buf`, up to its capacity; 0 at the end of the stream.
    pub(crate) fn recv(
        &mut self,
        fd: BorrowedFd<'_>,
        buf: &mut Vec<u8>,
        flags: RecvFlags,
    ) -> io::Result<usize> {
        self.await_plain(fd, flags)?;
        let mut reader = self.session.reader();
        let plain = reader.fill_buf()?;
        let count = plain.len().min(buf.capacity() - buf.len());
        buf.extend_from_slice(&plain[..count]);
        reader.consume(count);
        self.plain_left = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
        Ok(count)
    }

    /// The same into a slice.
    pub(crate) fn recv_slice(
        &mut self,
        fd: BorrowedFd<'_>,
        buf: &mut [u8],
        flags: RecvFlags,
    ) -> io::Result<usize> {
        self.await_plain(fd, flags)?;
        let mut reader = self.session.reader();
        let count = reader.read(buf)?;
        self.plain_left = reader.fill_buf().is_ok_and(|rest| !rest.is_empty());
        Ok(count)
    }

    /// Feeds the session until it has decrypted bytes, or knows that there will be none.
    fn await_plain(&mut self, fd: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<()> {
        loop {
            match self.session.reader().fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(|_| ()),
            }
            self.feed(fd, flags)?;
        }
    }

    /// One step of input: from the socket if need be, through the session.
    pub(crate) fn feed(&mut self, fd: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<()> {
        if self.taken == self.ciphertext.len() {
            self.ciphertext.clear();
            self.taken = 0;
            recv(fd, spare_capacity(&mut self.ciphertext), flags)?;
        }
        let count = self.session.read_tls(&mut &self.ciphertext[self.taken..])?;
        self.taken += count;
        if let Err(e) = self.session.process_new_packets() {
            // The server is told why (an alert); whether that arrives changes nothing for us.
            drop(self.flush(fd, SendFlags::NOSIGNAL | SendFlags::DONTWAIT));
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
        if count == 0 && self.session.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// If `e` comes from TLS itself: what is wrong, in words.
pub(crate) fn tls_cause(e: &io::Error) -> Option<String> {
    use rustls::{AlertDescription as Alert, CertificateError as Cert, Error};
    let e = e.get_ref()?.downcast_ref::<Error>()?;
    Some(match e {
        Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => {
            format!("the server's certificate has expired ({e})")
        }
        Error::InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. }) => {
            format!("the server's certificate is for another host ({e})")
        }
        Error::InvalidCertificate(Cert::UnknownIssuer) => {
            "the server's certificate comes from an authority that is not trusted (UnknownIssuer)"
                .into()
        }
        Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            format!("the server asks for a client certificate or refuses our terms ({e})")
        }
        Error::InvalidMessage(_) => format!("the server does not speak TLS on this port ({e})"),
        e => e.to_string(),
    })
}

struct Out<'a> {
    fd: BorrowedFd<'a>,
    flags: SendFlags,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.fd, bytes, self.flags)?)
    }
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(sendmsg(self.fd, parts, &mut SendAncillaryBuffer::default(), self.flags)?)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
