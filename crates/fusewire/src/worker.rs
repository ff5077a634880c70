//! A worker thread: read a request, answer it, again.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    decode::{Dialect, HEADER_BYTES, Header, Operation, parse},
    device::{Device, Received},
    dispatch::{Outcome, call, deliver},
    errno::Errno,
    filesystem::{Filesystem, LockRequest, Request},
    meter::Taking,
    pagebuf::PageBuf,
    reader_role::{Seat, Standby},
    session::Shared,
};

/// One thread's belongings.
pub(crate) struct Worker<F: Filesystem> {
    shared: Arc<Shared<F>>,
    device: Arc<Device>,
    dialect: Dialect,
    /// Reply of READDIR, kept to save allocations.
    scratch: Vec<u8>,
}

impl<F: Filesystem> Worker<F> {
    pub(crate) fn new(shared: Arc<Shared<F>>, device: Arc<Device>, dialect: Dialect) -> Self {
        Self { shared, device, dialect, scratch: Vec::new() }
    }

    /// Serves until the mount is gone, or (unless `permanent`) until there are workers to
    /// spare. Begins as the reader.
    ///
    /// # Errors
    ///
    /// The channel failed in a way that ends the session.
    pub(crate) fn serve(&mut self, mut buffer: PageBuf, permanent: bool) -> io::Result<()> {
        let seat = Seat::reader();
        let pass: Box<dyn Fn()> = {
            let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&seat));
            Box::new(move || shared.pass_role(&seat))
        };
        self.shared.fs.worker_begins(Standby {
            device: Arc::clone(&self.device),
            seat: Arc::clone(&seat),
            pass,
        });
        loop {
            if seat.take_stuck() {
                self.shared.reads_on(&seat);
            }
            if !seat.reads() && !self.shared.rest(&seat, permanent) {
                return Ok(());
            }
            let len = match self.device.receive(buffer.as_mut_slice())? {
                Received::Request(len) => len,
                Received::Again => continue,
                Received::Unmounted => {
                    // This thread may go on to other work: it watches for requests no longer.
                    seat.resign();
                    self.shared.close_bench();
                    return Ok(());
                }
            };
            self.handle(buffer.slice(0..len), &seat);
        }
    }

    fn handle(&mut self, bytes: &[u8], seat: &Arc<Seat>) {
        let (header, operation) = match parse(bytes, self.dialect) {
            Ok(request) => request,
            Err((header, error)) => {
                tracing::error!(%error, len = bytes.len(), head = ?bytes.get(..HEADER_BYTES), "malformed request");
                if let Some(header) = header {
                    self.device.answer(header.unique, -libc::EIO, &[]);
                }
                return;
            }
        };
        let taking = self.shared.meter.is_some().then(|| Taking::begin(header.opcode));
        match operation {
            Operation::Forget { .. } | Operation::BatchForget(_) | Operation::Interrupt { .. } => {}
            _ if self.shared.fs.hands_over() => {}
            _ => self.shared.pass_role(seat),
        }
        match operation {
            Operation::Interrupt { unique } => {
                if self.shared.waits.interrupt(unique) {
                    self.interrupt(unique);
                }
            }
            Operation::SetLk(lock) => self.take_lock(&header, &lock, false, taking),
            Operation::SetLkWait(lock) => self.take_lock(&header, &lock, true, taking),
            // The file system hears of the end once all workers are done.
            Operation::Destroy => {
                self.device.answer(header.unique, 0, &[]);
            }
            Operation::NotifyReply => {}
            operation => self.call(&header, operation, taking),
        }
    }

    fn call(&mut self, header: &Header<'_>, operation: Operation<'_>, taking: Option<Taking>) {
        let written = match &operation {
            Operation::Write(at) => at.data.len(),
            _ => 0,
        };
        let fs = &self.shared.fs;
        let scratch = &mut self.scratch;
        let answer = match catch_unwind(AssertUnwindSafe(|| {
            call(fs, header, operation, &mut *scratch)
        })) {
            Ok(answer) => answer,
            Err(panic) => {
                log_panic(header.opcode, &*panic);
                // FORGET is never answered; the kernel would refuse it.
                if matches!(header.opcode, crate::opcode::FORGET | crate::opcode::BATCH_FORGET) {
                    return;
                }
                Err(Errno::EIO)
            }
        };
        let (error, read) = match &answer {
            Ok((Outcome::Payload(data), _)) if header.opcode == crate::opcode::READ => {
                (None, data.len())
            }
            Ok(_) => (None, 0),
            Err(error) => (Some(*error), 0),
        };
        let device = &self.device;
        let delivered =
            catch_unwind(AssertUnwindSafe(|| deliver(fs, device, header, answer, scratch)));
        if let Err(panic) = delivered {
            log_panic(header.opcode, &*panic);
        }
        if let (Some(meter), Some(taking)) = (&self.shared.meter, taking) {
            taking.end(&**meter, error, read, if error.is_none() { written } else { 0 });
        }
    }

    fn take_lock(
        &self,
        header: &Header<'_>,
        lock: &LockRequest,
        wait: bool,
        taking: Option<Taking>,
    ) {
        let Header { unique, uid, gid, pid, groups, .. } = *header;
        let req = Request { unique, uid, gid, pid, groups };
        let taking = self.shared.meter.clone().zip(taking);
        let reply = self.shared.waits.begin(unique, &self.device, taking);
        let fs = &self.shared.fs;
        // On a panic the reply is dropped inside and answers EIO.
        let called = catch_unwind(AssertUnwindSafe(|| match wait {
            true => fs.setlkw(&req, header.nodeid, lock, reply),
            false => fs.setlk_later(&req, header.nodeid, lock, reply),
        }));
        if let Err(panic) = called {
            log_panic(header.opcode, &*panic);
        }
        if self.shared.waits.park(unique) {
            self.interrupt(unique);
        }
    }

    fn interrupt(&self, unique: u64) {
        let fs = &self.shared.fs;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| fs.interrupt(unique))) {
            log_panic(crate::opcode::INTERRUPT, &*panic);
        }
    }
}

fn log_panic(opcode: u32, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(opcode, message, "a file system method panicked, the request gets EIO");
}
