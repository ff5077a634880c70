//! A request of the kernel.
#![no_main]

use ringfs_fusewire::{Dialect, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _request = parse(bytes, Dialect::default());
    // With its length put right the fuzzer need not guess it.
    let mut whole = bytes.to_vec();
    if let (Some(length), Ok(said)) = (whole.get_mut(..4), u32::try_from(bytes.len())) {
        length.copy_from_slice(&said.to_ne_bytes());
        let _request = parse(&whole, Dialect::default());
    }
});
