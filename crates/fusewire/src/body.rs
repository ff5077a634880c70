//! The fixed-size part of a reply, built on the stack.

/// The largest fixed reply is `fuse_statx_out` with 288 bytes.
const BODY_BYTES: usize = 288;

/// Bytes of a reply after its header, native-endian as the protocol wants.
#[derive(Clone)]
pub(crate) struct Body {
    bytes: [u8; BODY_BYTES],
    len: usize,
}

impl Body {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; BODY_BYTES], len: 0 }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put<const N: usize>(mut self, value: [u8; N]) -> Self {
        self.bytes[self.len..self.len + N].copy_from_slice(&value);
        self.len += N;
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.put(value.to_ne_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.put(value.to_ne_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.put(value.to_ne_bytes())
    }

    /// `count` zero bytes: padding and spare fields.
    pub(crate) fn zeros(mut self, count: usize) -> Self {
        debug_assert!(self.len + count <= BODY_BYTES);
        self.len += count;
        self
    }
}
