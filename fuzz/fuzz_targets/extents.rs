//! Extent records: any that are read can be resolved, shortened and written back.
#![no_main]

use ringfs_meta::{ExtentRecord, dropped_slices, normalise, resolve};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(records) = ExtentRecord::unpack_all(bytes) else { return };
    assert_eq!(ExtentRecord::pack_all(&records), bytes);
    let _pieces = resolve(&records, 0..64 << 20);
    for drop_holes in [false, true] {
        let short = normalise(&records, drop_holes);
        assert!(dropped_slices(&short, &records).is_empty(), "no slice comes from nowhere");
    }
});
