//! A stored block: no bytes make its decoder panic.
#![no_main]

use ringfs_store::frame::Header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::parse(bytes) else { return };
    // Not verified first: unpacking has to cope by itself.
    let mut out = vec![0; 64 << 10];
    let body = bytes.get(header.header_len()..).unwrap_or_default();
    for offset in [0, 1, 40_000] {
        let _refused = header.unpack(body, offset, &mut out);
    }
    let _damage = header.verify(bytes);
});
