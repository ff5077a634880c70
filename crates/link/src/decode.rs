//! RESP2 and RESP3 from bytes to replies. Total: no input panics, loops, or allocates beyond what
//! has arrived plus a bounded head start.
//!
//! The decoder keeps its place between reads, so that a long array is walked once however it
//! arrives. A large string gets a buffer of exactly its size as soon as its length is known, and
//! the socket is read straight into that.

use crate::reply::Reply;
use bytes::Bytes;

/// The longest string accepted; Redis's own default limit (`proto-max-bulk-len`).
pub const BULK_BYTES_MAX: usize = 512 << 20;
/// The most bytes of strings in one reply.
pub const REPLY_BYTES_MAX: usize = 640 << 20;
/// The deepest nesting accepted.
pub const NESTING_MAX: usize = 8;
/// The most elements in one reply, over all its levels.
pub const AGGREGATE_ITEMS_MAX: usize = 4 << 20;

/// The longest line (status, error, number, length) accepted.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Room offered to each read.
const READ_BYTES: usize = 16 << 10;
/// Strings from here on get a buffer of their own.
const OWN_BUFFER_BYTES_MIN: usize = 8 << 10;
/// What a length announced by the server may make us allocate before its bytes arrive.
const HEAD_START_BYTES_MAX: usize = 16 << 20;
const HEAD_START_ITEMS_MAX: usize = 1024;

/// How the bytes broke the protocol.
pub(crate) type Violation = String;

#[derive(Clone, Copy)]
enum Kind {
    Array,
    Map,
    Push,
    /// Out-of-band remarks on the reply that follows; we skip them.
    Attribute,
}

struct Level {
    kind: Kind,
    left: usize,
    items: Vec<Reply>,
}

#[derive(Clone, Copy)]
enum StringKind {
    Bulk,
    Verbatim,
    Error,
}

struct Partial {
    kind: StringKind,
    bytes: usize,
    data: Vec<u8>,
}

/// Every reply in `bytes`, which arrive in pieces of at most `piece` (0: in one); the error tells
/// what broke the protocol.
#[cfg(any(test, feature = "fuzzing"))]
pub fn decode_all(bytes: &[u8], piece: usize) -> Result<Vec<Reply>, String> {
    let mut decoder = Decoder::new();
    let (mut replies, mut rest) = (Vec::new(), bytes);
    let piece = if piece == 0 { bytes.len() } else { piece };
    while !rest.is_empty() {
        let target = decoder.target();
        // As a socket does: not past the room that is offered.
        let room = (target.capacity() - target.len()).min(piece).min(rest.len());
        target.extend_from_slice(&rest[..room]);
        rest = &rest[room..];
        while let Some(reply) = decoder.next()? {
            replies.push(reply);
        }
    }
    Ok(replies)
}

/// What stands at the beginning of the next reply, for reading a string into a caller's buffer.
pub(crate) enum Head {
    /// More bytes are needed to tell.
    Incomplete,
    /// A string of so many bytes; its header was consumed.
    Bulk(usize),
    /// Something else; nothing was consumed.
    Other,
}

enum Step {
    Incomplete,
    Item(Reply),
    /// An aggregate or a long string was begun.
    Begun,
}

/// Turns a stream of bytes into replies.
#[derive(Default)]
pub(crate) struct Decoder {
    buf: Vec<u8>,
    pos: usize,
    stack: Vec<Level>,
    partial: Option<Partial>,
    items: usize,
    bytes: usize,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder::default()
    }

    /// Where to append what the socket gives; there is always spare capacity.
    pub(crate) fn target(&mut self) -> &mut Vec<u8> {
        match &mut self.partial {
            Some(partial) => {
                if partial.data.len() == partial.data.capacity() {
                    let missing = partial.bytes + 2 - partial.data.len();
                    let more = missing.min(partial.data.len().max(HEAD_START_BYTES_MAX));
                    partial.data.reserve_exact(more.max(1));
                }
                &mut partial.data
            }
            None => {
                if self.pos > 0 {
                    self.buf.drain(..self.pos);
                    self.pos = 0;
                }
                if self.buf.capacity() - self.buf.len() < READ_BYTES / 2 {
                    self.buf.reserve(READ_BYTES);
                }
                &mut self.buf
            }
        }
    }

    /// How many bytes the string that is being received still lacks; 0 if there is none.
    pub(crate) fn missing(&self) -> usize {
        self.partial.as_ref().map_or(0, |p| (p.bytes + 2).saturating_sub(p.data.len()))
    }

    /// Bytes have arrived that no reply has used yet, or a reply is half received.
    pub(crate) fn is_midway(&self) -> bool {
        self.pos < self.buf.len() || self.partial.is_some() || !self.stack.is_empty()
    }

    /// The next complete reply, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>, Violation> {
        loop {
            let item = match self.step()? {
                Step::Incomplete => return Ok(None),
                Step::Begun => continue,
                Step::Item(item) => item,
            };
            if let Some(reply) = self.attach(item) {
                self.items = 0;
                self.bytes = 0;
                return Ok(Some(reply));
            }
        }
    }

    /// Looks at the next reply's head; for [`crate::Conn::recv_into`].
    pub(crate) fn head(&mut self) -> Result<Head, Violation> {
        if self.partial.is_some() || !self.stack.is_empty() {
            return Ok(Head::Other);
        }
        match self.buf.get(self.pos) {
            None => return Ok(Head::Incomplete),
            Some(b'$') => {}
            Some(_) => return Ok(Head::Other),
        }
        let Some(end) = self.line_end()? else { return Ok(Head::Incomplete) };
        match parse_length(&self.buf[self.pos + 1..end], BULK_BYTES_MAX)? {
            None => Ok(Head::Other),
            Some(bytes) => {
                self.pos = end + 2;
                Ok(Head::Bulk(bytes))
            }
        }
    }

    /// Moves bytes that have arrived to `out`; returns how many.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> usize {
        let have = out.len().min(self.buf.len() - self.pos);
        out[..have].copy_from_slice(&self.buf[self.pos..self.pos + have]);
        self.pos += have;
        have
    }

    /// The line break after a string that was read elsewhere; `false` if it has not arrived.
    pub(crate) fn take_line_break(&mut self) -> Result<bool, Violation> {
        match &self.buf[self.pos..] {
            [b'\r', b'\n', ..] => {
                self.pos += 2;
                Ok(true)
            }
            [] | [b'\r'] => Ok(false),
            _ => Err("a string is not followed by a line break".into()),
        }
    }

    fn step(&mut self) -> Result<Step, Violation> {
        if let Some(partial) = &mut self.partial {
            let whole = partial.bytes + 2;
            if partial.data.len() < whole {
                return Ok(Step::Incomplete);
            }
            if partial.data.len() > whole {
                // The allocator may give more room than asked for, and the socket may fill it.
                self.buf.extend_from_slice(&partial.data[whole..]);
            }
            let Partial { kind, bytes, mut data } = self.partial.take().expect("looked at above");
            if &data[bytes..bytes + 2] != b"\r\n" {
                return Err("a string is not followed by a line break".into());
            }
            data.truncate(bytes);
            return Ok(Step::Item(string_reply(kind, Bytes::from(data))));
        }
        let Some(&sigil) = self.buf.get(self.pos) else { return Ok(Step::Incomplete) };
        if !b"+-:$*_#,(!=%~>|".contains(&sigil) {
            return Err(nonsense(&self.buf[self.pos..]));
        }
        let Some(end) = self.line_end()? else { return Ok(Step::Incomplete) };
        let from = self.pos + 1;
        let line = &self.buf[from..end];
        let next = end + 2;
        match sigil {
            b'+' | b'(' => {
                let reply = Reply::Text(Bytes::copy_from_slice(line));
                self.item(next, reply)
            }
            b'-' => {
                let reply = Reply::Error(Bytes::copy_from_slice(line));
                self.item(next, reply)
            }
            b':' => match parse_int(line) {
                Some(value) => self.item(next, Reply::Int(value)),
                None => Err("an integer has no digits or too many".into()),
            },
            b'_' => self.item(next, Reply::Nil),
            b'#' => match line {
                b"t" => self.item(next, Reply::Bool(true)),
                b"f" => self.item(next, Reply::Bool(false)),
                _ => Err("a boolean is neither t nor f".into()),
            },
            b',' => match std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()) {
                Some(value) => self.item(next, Reply::Double(value)),
                None => Err("a floating point number is malformed".into()),
            },
            b'$' => self.string(next, StringKind::Bulk, from, end),
            b'=' => self.string(next, StringKind::Verbatim, from, end),
            b'!' => self.string(next, StringKind::Error, from, end),
            b'*' | b'~' => self.aggregate(next, Kind::Array, from, end),
            b'>' => self.aggregate(next, Kind::Push, from, end),
            b'%' => self.aggregate(next, Kind::Map, from, end),
            _ => self.aggregate(next, Kind::Attribute, from, end),
        }
    }

    fn item(&mut self, next: usize, reply: Reply) -> Result<Step, Violation> {
        self.pos = next;
        self.count(1)?;
        Ok(Step::Item(reply))
    }

    fn count(&mut self, items: usize) -> Result<(), Violation> {
        self.items = self.items.saturating_add(items);
        if self.items > AGGREGATE_ITEMS_MAX {
            return Err(format!("a reply has more than {AGGREGATE_ITEMS_MAX} elements"));
        }
        Ok(())
    }

    fn string(
        &mut self,
        next: usize,
        kind: StringKind,
        from: usize,
        end: usize,
    ) -> Result<Step, Violation> {
        let Some(bytes) = parse_length(&self.buf[from..end], BULK_BYTES_MAX)? else {
            return self.item(next, Reply::Nil);
        };
        self.bytes += bytes;
        if self.bytes > REPLY_BYTES_MAX {
            return Err(format!("a reply has more than {REPLY_BYTES_MAX} bytes"));
        }
        let have = self.buf.len() - next;
        if have >= bytes + 2 {
            if &self.buf[next + bytes..next + bytes + 2] != b"\r\n" {
                return Err("a string is not followed by a line break".into());
            }
            let data = Bytes::copy_from_slice(&self.buf[next..next + bytes]);
            return self.item(next + bytes + 2, string_reply(kind, data));
        }
        if bytes < OWN_BUFFER_BYTES_MIN {
            // The header is read again when the rest has come: cheaper than a buffer of its own.
            self.bytes -= bytes;
            return Ok(Step::Incomplete);
        }
        self.count(1)?;
        let mut data = Vec::with_capacity((bytes + 2).min(HEAD_START_BYTES_MAX).max(have));
        data.extend_from_slice(&self.buf[next..]);
        self.buf.clear();
        self.pos = 0;
        self.partial = Some(Partial { kind, bytes, data });
        Ok(Step::Begun)
    }

    fn aggregate(
        &mut self,
        next: usize,
        kind: Kind,
        from: usize,
        end: usize,
    ) -> Result<Step, Violation> {
        let Some(length) = parse_length(&self.buf[from..end], AGGREGATE_ITEMS_MAX)? else {
            return self.item(next, Reply::Nil);
        };
        if self.stack.len() >= NESTING_MAX {
            return Err(format!("a reply is nested more than {NESTING_MAX} deep"));
        }
        let left = match kind {
            Kind::Map | Kind::Attribute => length * 2,
            Kind::Array | Kind::Push => length,
        };
        self.count(1)?;
        if self.items + left > AGGREGATE_ITEMS_MAX {
            return Err(format!("a reply has more than {AGGREGATE_ITEMS_MAX} elements"));
        }
        self.pos = next;
        if left == 0 {
            return Ok(match build(kind, Vec::new()) {
                Some(reply) => Step::Item(reply),
                None => Step::Begun,
            });
        }
        let items = Vec::with_capacity(left.min(HEAD_START_ITEMS_MAX));
        self.stack.push(Level { kind, left, items });
        Ok(Step::Begun)
    }

    /// Puts an item into the aggregate it belongs to; a reply that is complete comes back.
    fn attach(&mut self, mut item: Reply) -> Option<Reply> {
        loop {
            let Some(level) = self.stack.last_mut() else { return Some(item) };
            level.items.push(item);
            level.left -= 1;
            if level.left > 0 {
                return None;
            }
            let level = self.stack.pop()?;
            item = build(level.kind, level.items)?;
        }
    }

    /// The index of the `\r` that ends the line at the position.
    fn line_end(&self) -> Result<Option<usize>, Violation> {
        let rest = &self.buf[self.pos..];
        match rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') {
            Some(0) => Err(nonsense(rest)),
            Some(at) if rest[at - 1] == b'\r' && at >= 2 => Ok(Some(self.pos + at - 1)),
            Some(_) => Err("a line does not end with CR LF".into()),
            None if rest.len() >= LINE_BYTES_MAX => Err("a line is too long".into()),
            None => Ok(None),
        }
    }
}

/// `None` for an attribute, which is nobody's item.
fn build(kind: Kind, items: Vec<Reply>) -> Option<Reply> {
    match kind {
        Kind::Array => Some(Reply::Array(items)),
        Kind::Push => Some(Reply::Push(items)),
        Kind::Attribute => None,
        Kind::Map => {
            let mut items = items.into_iter();
            Some(Reply::Map(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()))
        }
    }
}

fn string_reply(kind: StringKind, data: Bytes) -> Reply {
    match kind {
        StringKind::Bulk => Reply::Bulk(data),
        StringKind::Error => Reply::Error(data),
        // `txt:` or `mkd:` comes before the text.
        StringKind::Verbatim => Reply::Bulk(data.slice(data.len().min(4)..)),
    }
}

/// `None` for -1, RESP2's nil.
fn parse_length(digits: &[u8], max: usize) -> Result<Option<usize>, Violation> {
    match parse_int(digits) {
        Some(-1) => Ok(None),
        Some(value) => match usize::try_from(value) {
            Ok(length) if length <= max => Ok(Some(length)),
            Ok(length) => Err(format!("a length of {length} is above the limit of {max}")),
            Err(_) => Err(format!("a length is negative: {value}")),
        },
        None => Err("a length is not a number".into()),
    }
}

fn parse_int(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

/// A message that shows the beginning of what came, so that "it is an HTTP server" is seen.
fn nonsense(bytes: &[u8]) -> Violation {
    let shown = bytes.len().min(24);
    format!("its answer begins with \"{}\"", bytes[..shown].escape_ascii())
}

#[cfg(test)]
mod tests;
