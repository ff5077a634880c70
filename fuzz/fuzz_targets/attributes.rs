//! Attributes as the metadata server keeps them: what is read is written back as it was.
#![no_main]

use ringfs_base::InodeId;
use ringfs_meta::Attr;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(attr) = Attr::unpack(InodeId(64), bytes) {
        assert_eq!(Attr::unpack(InodeId(64), &attr.pack()), Some(attr));
    }
});
