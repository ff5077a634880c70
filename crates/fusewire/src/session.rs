//! A mount being served: the INIT handshake, then worker threads until it is unmounted.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    capability::{Capabilities, HandshakeError, MAJOR, MINOR_MIN},
    decode::{HEADER_BYTES, Operation, parse},
    device::{Device, Received},
    filesystem::Filesystem,
    flags::InitFlags,
    lockwait::Waits,
    meter::Meter,
    mount::{Mount, Unmounter},
    mountoption::MountOptions,
    notify::Notifier,
    pagebuf::PageBuf,
    reader_role::Bench,
    worker::Worker,
};

/// Room for the header and fixed arguments in front of a WRITE's data.
const OVERHEAD_BYTES: usize = 4096;
/// Payloads besides writes, an xattr value with its name above all, must fit too.
const PAYLOAD_BYTES_MIN: usize = 128 << 10;
/// The kernel's minimum read buffer, enough for INIT.
const INIT_BUFFER_BYTES: usize = 8192;

const _: () = assert!(HEADER_BYTES < OVERHEAD_BYTES);

/// What all workers share.
pub(crate) struct Shared<F: Filesystem> {
    pub(crate) fs: F,
    pub(crate) waits: Arc<Waits>,
    pub(crate) bench: Mutex<Bench>,
    pub(crate) meter: Option<Arc<dyn Meter>>,
    root: Arc<Device>,
    mount: Mount,
    options: MountOptions,
    agreed: OnceLock<Capabilities>,
    crew: Mutex<Crew>,
    crew_changed: Condvar,
    /// A worker could not be started.
    short: AtomicBool,
}

/// Worker threads besides the one that runs the session.
#[derive(Default)]
struct Crew {
    spawned: usize,
    failure: Option<io::Error>,
}

impl<F: Filesystem> Shared<F> {
    /// Size of a worker's request buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let max_write = self.agreed.get().map_or(0, |agreed| agreed.max_write as usize);
        max_write.max(PAYLOAD_BYTES_MIN) + OVERHEAD_BYTES
    }

    /// Starts one more worker, which begins as the reader, unless there are `workers_max`
    /// already. Whether it did.
    pub(crate) fn spawn_worker(shared: &Arc<Self>) -> bool {
        // Before the thread is, since without this it would have to end as the reader.
        let buffer = match PageBuf::new(shared.buffer_bytes()) {
            Ok(buffer) => buffer,
            Err(error) => {
                shared.goes_on_with_fewer(&error);
                return false;
            }
        };
        {
            let mut crew = shared.crew.lock();
            if crew.spawned + 1 >= shared.options.workers_max {
                return false;
            }
            crew.spawned += 1;
        }
        let worker = Arc::clone(shared);
        let spawned = thread::Builder::new().name("fuse-worker".into()).spawn(move || {
            let channel = worker.root.clone_channel().map(Arc::new);
            let result = worker.serve(channel, buffer, false);
            worker.leave(result);
        });
        if let Err(error) = spawned {
            shared.goes_on_with_fewer(&error);
            shared.leave(Ok(()));
            return false;
        }
        true
    }

    /// Said once: when memory is short it would be said with every request.
    fn goes_on_with_fewer(&self, error: &io::Error) {
        if !self.short.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "cannot start another worker thread, going on with fewer");
        }
    }

    fn serve(
        self: &Arc<Self>,
        channel: io::Result<Arc<Device>>,
        buffer: PageBuf,
        permanent: bool,
    ) -> io::Result<()> {
        // Without a clone (an unprivileged user may not open /dev/fuse) workers share a channel.
        let device = channel.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot clone the channel, sharing the first one");
            Arc::clone(&self.root)
        });
        let dialect =
            self.agreed.get().ok_or(HandshakeError::NoInit).map_err(io::Error::other)?.dialect();
        let result = Worker::new(Arc::clone(self), device, dialect).serve(buffer, permanent);
        if result.is_err() {
            // The reader is gone; the session ends with its error and takes the others along.
            self.close_bench();
        }
        result
    }

    fn leave(&self, result: io::Result<()>) {
        let mut crew = self.crew.lock();
        crew.spawned -= 1;
        if let Err(error) = result {
            tracing::error!(%error, "a worker failed");
            crew.failure.get_or_insert(error);
        }
        self.crew_changed.notify_all();
    }

    /// Waits for the kernel's INIT and answers it.
    fn handshake(&self) -> io::Result<Capabilities> {
        let mut buffer = PageBuf::new(INIT_BUFFER_BYTES)?;
        loop {
            let len = match self.root.receive(buffer.as_mut_slice())? {
                Received::Request(len) => len,
                Received::Again => continue,
                Received::Unmounted => return Err(io::Error::other(HandshakeError::Unmounted)),
            };
            let parsed = parse(buffer.slice(0..len), crate::decode::Dialect::default());
            let Ok((header, Operation::Init { major, minor, max_readahead, flags })) = parsed
            else {
                return Err(io::Error::other(HandshakeError::NoInit));
            };
            if major > MAJOR {
                // Say which major version we speak; the kernel then asks again with it.
                let answer = crate::body::Body::new().u32(MAJOR).u32(MINOR_MIN).zeros(56);
                self.root.answer(header.unique, 0, &[answer.as_slice()]);
                continue;
            }
            if major < MAJOR || minor < MINOR_MIN {
                self.root.answer(header.unique, -libc::EPROTO, &[]);
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    HandshakeError::KernelTooOld { major, minor },
                ));
            }
            let offered = InitFlags::from_bits(flags);
            let mut caps = Capabilities::new(minor, max_readahead, offered, &self.options);
            self.fs.init(&mut caps);
            tracing::debug!(minor, ?offered, agreed = ?caps.wanted(), "FUSE handshake");
            // Published first: another thread may ask for it the moment the kernel goes on.
            let caps = self.agreed.get_or_init(|| caps);
            self.root.answer(header.unique, 0, &[caps.encode().as_slice()]);
            return Ok(caps.clone());
        }
    }
}

/// A file system and the mount it serves.
pub struct Session<F: Filesystem> {
    shared: Arc<Shared<F>>,
    /// Held while `run` runs.
    running: Mutex<()>,
    /// Held while INIT is awaited.
    shaking: Mutex<()>,
}

impl<F: Filesystem> Session<F> {
    /// Binds a file system to a mount. Nothing is served before [`run`](Self::run); accesses
    /// to the mount wait.
    pub fn new(fs: F, mount: Mount, options: &MountOptions) -> Self {
        Self::measured(fs, mount, options, None)
    }

    /// The same, with every answered request told to `meter`.
    pub fn measured(
        fs: F,
        mut mount: Mount,
        options: &MountOptions,
        meter: Option<Arc<dyn Meter>>,
    ) -> Self {
        let root = mount.take_device();
        let shared = Shared {
            fs,
            waits: Arc::default(),
            bench: Mutex::default(),
            meter,
            root,
            mount,
            options: options.clone(),
            agreed: OnceLock::new(),
            crew: Mutex::default(),
            crew_changed: Condvar::new(),
            short: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), running: Mutex::new(()), shaking: Mutex::new(()) }
    }

    /// Waits for the kernel's INIT and answers it; when this returns, the mount is usable as
    /// soon as [`run`](Self::run) is called. Optional: `run` does it otherwise. Later calls
    /// answer at once what was agreed on.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] inside, or an error of the device.
    pub fn handshake(&self) -> io::Result<Capabilities> {
        let _shaking = self.shaking.lock();
        match self.shared.agreed.get() {
            Some(agreed) => Ok(agreed.clone()),
            None => self.shared.handshake(),
        }
    }

    /// Serves the mount until it is unmounted and every request is answered. One thread at a
    /// time.
    ///
    /// # Errors
    ///
    /// The handshake failed, or the device failed in use; the mount is undone in both cases.
    pub fn run(&self) -> io::Result<()> {
        let _running = self.running.lock();
        let shared = &self.shared;
        let result = self
            .handshake()
            .and_then(|_| PageBuf::new(shared.buffer_bytes()))
            .and_then(|buffer| shared.serve(Ok(Arc::clone(&shared.root)), buffer, true));
        if result.is_err() || shared.crew.lock().failure.is_some() {
            // Other workers end only when the mount does.
            shared.mount.unmount_lazy()?;
        }
        let mut crew = shared.crew.lock();
        while crew.spawned > 0 {
            shared.crew_changed.wait(&mut crew);
        }
        let failure = crew.failure.take();
        drop(crew);
        if shared.agreed.get().is_some() {
            shared.fs.destroy();
        }
        result.and(failure.map_or(Ok(()), Err))
    }

    /// The way to tell the kernel what to forget.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(&self.shared.root)
    }

    /// The way to unmount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        self.shared.mount.unmounter()
    }

    /// The file system.
    pub fn filesystem(&self) -> &F {
        &self.shared.fs
    }

    /// Workers that rest right now, and workers in total.
    pub fn workers(&self) -> (usize, usize) {
        (self.shared.bench.lock().len(), self.shared.crew.lock().spawned + 1)
    }

    /// Shakes hands, then serves on a thread of its own. Dropping the result unmounts.
    ///
    /// # Errors
    ///
    /// As [`handshake`](Self::handshake), or the thread could not be started.
    pub fn spawn(self) -> io::Result<Running<F>> {
        self.handshake()?;
        let session = Arc::new(self);
        let runner = Arc::clone(&session);
        let thread =
            thread::Builder::new().name("fuse-session".into()).spawn(move || runner.run())?;
        Ok(Running { session, thread: Some(thread) })
    }
}

/// A session served in the background. Dropping it unmounts, by force if files are open;
/// [`stop`](Self::stop) is the orderly way.
pub struct Running<F: Filesystem> {
    session: Arc<Session<F>>,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl<F: Filesystem> Running<F> {
    /// The session.
    pub fn session(&self) -> &Session<F> {
        &self.session
    }

    /// Unmounts, lazily where busy, and waits until the last open file is closed and everything
    /// is answered.
    ///
    /// # Errors
    ///
    /// Unmounting failed, or the session had.
    pub fn stop(mut self) -> io::Result<()> {
        self.session.shared.mount.unmount_or_detach()?;
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| io::Error::other("the session's thread panicked"))?
    }
}

impl<F: Filesystem> Drop for Running<F> {
    fn drop(&mut self) {
        if self.thread.is_none() {
            return;
        }
        // Unlike `stop` this must not wait for files that are still open: they may belong to
        // the very thread that drops us.
        let mount = &self.session.shared.mount;
        let unmounted = match mount.unmount() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let forced = self.session.unmounter().unmount_force();
                if let Err(error) = forced {
                    // Without root: out of the tree, and served until the files are closed.
                    tracing::warn!(%error, "cannot force an unmount, detaching the mount instead");
                    if let Err(error) = mount.unmount_lazy() {
                        tracing::error!(%error, "detaching a FUSE mount failed");
                    }
                    return;
                }
                Ok(())
            }
            result => result,
        };
        if let Err(error) = unmounted.and_then(|()| self.join()) {
            tracing::error!(%error, "ending a FUSE session failed");
        }
    }
}
