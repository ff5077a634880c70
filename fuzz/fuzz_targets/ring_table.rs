//! The ring's table and overlay: what is accepted can be used, and encodes to what it was.
#![no_main]

use ringfs_ring::{StatusOverlay, Table};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = Table::decode(bytes) {
        let arc = table.arc_of(b"a block");
        assert!(table.owners(arc).iter().all(|owner| table.member(*owner).is_some()));
        assert_eq!(Table::decode(&table.encode()).as_ref(), Ok(&table));
    }
    let _overlay = StatusOverlay::decode(bytes);
});
