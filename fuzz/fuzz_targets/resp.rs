//! Replies of a Redis server, in one piece and byte by byte: both ways give the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert_eq!(ringfs_link::decode_all(bytes, bytes.len()), ringfs_link::decode_all(bytes, 1));
});
