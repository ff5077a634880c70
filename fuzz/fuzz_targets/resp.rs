//! Replies of a Redis server, in one piece and byte by byte: both ways give the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // As text, since a number that is none equals nothing; errors show what had arrived.
    let read = |piece| ringfs_link::decode_all(bytes, piece).ok().map(|all| format!("{all:?}"));
    assert_eq!(read(0), read(1));
});
