//! A volume's record: lines "field=value".
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let fields = text.lines().filter_map(|line| line.split_once('='));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let _config = ringfs_meta::decode_config(&fields);
});
