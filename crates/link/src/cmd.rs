//! Commands, encoded while they are built.
//!
//! Small arguments are copied into one buffer in wire form; large ones stay where they are and are
//! woven in by `writev` when the command is sent. A command without large arguments is one slice.

/// Room for `*<count>\r\n` before the first argument, whose count is only known at the end.
const HEAD_BYTES: usize = 16;

/// Above this, copying costs more than one more element in `writev`.
const COPY_BYTES_MAX: usize = 4096;

/// One command with its arguments, in wire form.
#[derive(Clone, Debug)]
pub struct Cmd<'a> {
    name: &'static str,
    /// `HEAD_BYTES` of head room, then arguments in wire form.
    wire: Vec<u8>,
    /// Where in `wire` the count line begins.
    start: usize,
    count: usize,
    /// Slices that stand, on the wire, before the byte `wire[position]`.
    woven: Vec<(usize, &'a [u8])>,
}

impl<'a> Cmd<'a> {
    /// A command without arguments yet. `name` may not contain spaces; `CLIENT LIST` is
    /// `new("CLIENT").arg("LIST")`.
    pub fn new(name: &'static str) -> Cmd<'a> {
        let mut wire = Vec::with_capacity(192);
        wire.resize(HEAD_BYTES, 0);
        let mut cmd = Cmd { name, wire, start: 0, count: 0, woven: Vec::new() };
        cmd.push(name.as_bytes());
        cmd.write_count();
        cmd
    }

    /// A command whose name is not known when we are compiled; for tools and tests.
    pub fn from_words<T: AsRef<[u8]>>(words: impl IntoIterator<Item = T>) -> Cmd<'a> {
        let mut wire = Vec::with_capacity(192);
        wire.resize(HEAD_BYTES, 0);
        Cmd { name: "", wire, start: HEAD_BYTES, count: 0, woven: Vec::new() }.args(words)
    }

    /// The command's name, for fault injection and messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Appends an argument, copied.
    #[must_use]
    pub fn arg(mut self, value: impl AsRef<[u8]>) -> Cmd<'a> {
        self.push(value.as_ref());
        self.write_count();
        self
    }

    /// Appends several arguments, copied.
    #[must_use]
    pub fn args<T: AsRef<[u8]>>(mut self, values: impl IntoIterator<Item = T>) -> Cmd<'a> {
        for value in values {
            self.push(value.as_ref());
        }
        self.write_count();
        self
    }

    /// Appends an integer in decimal.
    #[must_use]
    pub fn int(self, value: i64) -> Cmd<'a> {
        let mut digits = [0; 20];
        let from = decimal(value.unsigned_abs(), &mut digits);
        if value < 0 {
            let mut signed = [b'-'; 21];
            signed[1 + from..].copy_from_slice(&digits[from..]);
            self.arg(&signed[from..])
        } else {
            self.arg(&digits[from..])
        }
    }

    /// Appends an argument that stays where it is if it is large.
    #[must_use]
    pub fn payload(self, value: &'a [u8]) -> Cmd<'a> {
        self.payload_parts(&[value])
    }

    /// Appends one argument made of several slices, which stay where they are if they are large.
    #[must_use]
    pub fn payload_parts(mut self, parts: &[&'a [u8]]) -> Cmd<'a> {
        self.push_length(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            if part.len() <= COPY_BYTES_MAX {
                self.wire.extend_from_slice(part);
            } else {
                self.woven.push((self.wire.len(), part));
            }
        }
        self.wire.extend_from_slice(b"\r\n");
        self.write_count();
        self
    }

    /// The slices that go onto the wire, in order.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = self.start;
        let tail = self.woven.last().map_or(self.start, |&(at, _)| at);
        self.woven
            .iter()
            .flat_map(move |&(at, part)| {
                let before = &self.wire[from..at];
                from = at;
                [before, part]
            })
            .chain(std::iter::once(&self.wire[tail..]))
            .filter(|slice| !slice.is_empty())
    }

    /// The whole command if it is one slice.
    pub(crate) fn as_one_slice(&self) -> Option<&[u8]> {
        self.woven.is_empty().then(|| &self.wire[self.start..])
    }

    fn push(&mut self, value: &[u8]) {
        self.push_length(value.len());
        self.wire.extend_from_slice(value);
        self.wire.extend_from_slice(b"\r\n");
    }

    fn push_length(&mut self, length: usize) {
        self.count += 1;
        let mut digits = [0; 20];
        let from = decimal(length as u64, &mut digits);
        self.wire.push(b'$');
        self.wire.extend_from_slice(&digits[from..]);
        self.wire.extend_from_slice(b"\r\n");
    }

    /// The count line is kept right-aligned in the head room: Redis takes no leading zeros.
    fn write_count(&mut self) {
        let mut digits = [0; 20];
        let from = decimal(self.count as u64, &mut digits);
        let count = &digits[from..];
        self.start = HEAD_BYTES - 3 - count.len();
        self.wire[self.start] = b'*';
        self.wire[self.start + 1..HEAD_BYTES - 2].copy_from_slice(count);
        self.wire[HEAD_BYTES - 2..HEAD_BYTES].copy_from_slice(b"\r\n");
    }
}

/// Writes `value` right-aligned; returns where its first digit is.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> usize {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(cmd: &Cmd<'_>) -> Vec<u8> {
        cmd.slices().flatten().copied().collect()
    }

    #[test]
    fn small_commands_are_one_slice() {
        let cmd = Cmd::new("SET").arg("k").int(-120);
        assert_eq!(wire(&cmd), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n-120\r\n");
        assert_eq!(cmd.as_one_slice(), Some(&wire(&cmd)[..]));
    }

    #[test]
    fn extreme_integers_and_empty_arguments() {
        let cmd = Cmd::new("X").int(i64::MIN).int(i64::MAX).int(0).arg("");
        let text = String::from_utf8(wire(&cmd)).unwrap();
        assert_eq!(
            text,
            "*5\r\n$1\r\nX\r\n$20\r\n-9223372036854775808\r\n$19\r\n9223372036854775807\r\n$1\r\n0\r\n$0\r\n\r\n"
        );
    }

    #[test]
    fn large_parts_are_woven_in_without_copying() {
        let big = vec![b'b'; COPY_BYTES_MAX + 1];
        let cmd = Cmd::new("SET").arg("k").payload_parts(&[b"head", &big, &big, b"tail"]).arg("NX");
        assert!(cmd.as_one_slice().is_none());
        assert_eq!(cmd.slices().filter(|s| s.as_ptr() == big.as_ptr()).count(), 2);
        let mut expected = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n".to_vec();
        expected.extend_from_slice(format!("${}\r\nhead", 8 + 2 * big.len()).as_bytes());
        expected.extend_from_slice(&big);
        expected.extend_from_slice(&big);
        expected.extend_from_slice(b"tail\r\n$2\r\nNX\r\n");
        assert_eq!(wire(&cmd), expected);
    }

    #[test]
    fn many_arguments_fit_the_head_room() {
        let cmd = Cmd::new("DEL").args((0..100_000).map(|i| i.to_string()));
        assert!(wire(&cmd).starts_with(b"*100001\r\n$3\r\nDEL\r\n$1\r\n0\r\n"));
    }
}
