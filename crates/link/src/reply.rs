//! Replies, and their conversion into what the caller expects.

use crate::error::{LinkError, ServerName};
use bytes::Bytes;

/// One decoded reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing: a missing key, a missing field.
    Nil,
    /// An integer.
    Int(i64),
    /// A floating point number (RESP3).
    Double(f64),
    /// True or false (RESP3).
    Bool(bool),
    /// A status such as `OK`.
    Text(Bytes),
    /// A string.
    Bulk(Bytes),
    /// An array or a set.
    Array(Vec<Reply>),
    /// A map (RESP3).
    Map(Vec<(Reply, Reply)>),
    /// A message nobody asked for (RESP3).
    Push(Vec<Reply>),
    /// An error. At the top it becomes [`LinkError::Server`]; inside an array it stays as it is.
    Error(Bytes),
}

impl Reply {
    /// The kind of reply, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Reply::Nil => "nil",
            Reply::Int(_) => "an integer",
            Reply::Double(_) => "a double",
            Reply::Bool(_) => "a boolean",
            Reply::Text(_) => "a status",
            Reply::Bulk(_) => "a string",
            Reply::Array(_) => "an array",
            Reply::Map(_) => "a map",
            Reply::Push(_) => "a push message",
            Reply::Error(_) => "an error",
        }
    }

    fn mismatch<T>(self, wanted: &str) -> Result<T, LinkError> {
        match self {
            Reply::Error(line) => Err(LinkError::from_reply(&ServerName::UNKNOWN, &line)),
            other => {
                Err(LinkError::unexpected(format!("{} where {wanted} was expected", other.kind())))
            }
        }
    }

    /// A string, or `None` for nil.
    pub fn into_bytes(self) -> Result<Option<Bytes>, LinkError> {
        match self {
            Reply::Nil => Ok(None),
            Reply::Bulk(bytes) | Reply::Text(bytes) => Ok(Some(bytes)),
            other => other.mismatch("a string"),
        }
    }

    /// A string that must be there.
    pub fn into_some_bytes(self) -> Result<Bytes, LinkError> {
        match self {
            Reply::Bulk(bytes) | Reply::Text(bytes) => Ok(bytes),
            other => other.mismatch("a string"),
        }
    }

    /// An integer, also one that came as a string.
    pub fn into_int(self) -> Result<i64, LinkError> {
        match self {
            Reply::Int(value) => Ok(value),
            Reply::Bool(value) => Ok(i64::from(value)),
            Reply::Bulk(ref bytes) | Reply::Text(ref bytes) => {
                match std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
                    Some(value) => Ok(value),
                    None => self.mismatch("an integer"),
                }
            }
            other => other.mismatch("an integer"),
        }
    }

    /// An array or set; a map becomes its keys and values in turn; nil becomes an empty array.
    pub fn into_array(self) -> Result<Vec<Reply>, LinkError> {
        match self {
            Reply::Array(items) | Reply::Push(items) => Ok(items),
            Reply::Map(pairs) => Ok(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect()),
            Reply::Nil => Ok(Vec::new()),
            other => other.mismatch("an array"),
        }
    }

    /// A map; an array of even length, as RESP2 sends it, becomes one.
    pub fn into_map(self) -> Result<Vec<(Reply, Reply)>, LinkError> {
        match self {
            Reply::Map(pairs) => Ok(pairs),
            Reply::Array(items) if items.len() % 2 == 0 => {
                let mut items = items.into_iter();
                Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
            }
            other => other.mismatch("a map"),
        }
    }

    /// The status `OK`, or nil as `false` (a `SET NX` that did not).
    pub fn into_ok(self) -> Result<bool, LinkError> {
        match self {
            Reply::Text(text) if &text[..] == b"OK" => Ok(true),
            Reply::Nil => Ok(false),
            other => other.mismatch("OK"),
        }
    }

    /// The bytes of a string or status.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) | Reply::Text(bytes) => Some(bytes),
            _ => None,
        }
    }
}
