use super::*;
use proptest::prelude::*;
use ringfs_base::SliceId;

const VOLUME: VolumeUuid = VolumeUuid(*b"0123456789abcdef");

fn identity(slice: u64, index: u32) -> Identity {
    Identity { volume: VOLUME, block: BlockId { slice: SliceId(slice), index } }
}

fn frame(identity: &Identity, codec: Codec, shift: u8, raw: &[u8]) -> Vec<u8> {
    let encoded = Encoded::new(identity, codec, shift, raw);
    let bytes = encoded.parts().concat();
    assert_eq!(bytes.len(), encoded.frame_len());
    bytes
}

fn read(
    frame: &[u8],
    identity: &Identity,
    raw_len: u32,
    range: Range<u32>,
) -> Result<Vec<u8>, Damage> {
    let header = Header::parse(frame)?;
    header.require(identity, Some(raw_len))?;
    let touched = header.segments_of(&range);
    let body = &frame[header.header_len()..];
    let (first, last) = (&header.index[touched.start], &header.index[touched.end - 1]);
    let stored = body.get(first.begin as usize..last.end as usize).unwrap_or(body);
    let mut out = vec![0; range.len()];
    header.unpack(stored, range.start, &mut out)?;
    Ok(out)
}

/// Half text, half noise, so that raw and compressed segments alternate.
fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if (at >> 13) & 1 == 0 { b"the quick brown fox "[at % 20] } else { state as u8 }
        })
        .collect()
}

fn codecs() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)]
}

use std::ops::Range;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_range_reads_back(
        codec in codecs(), shift in 12u8..=16, length in 1usize..200_000, seed: u64,
        a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let raw = mixed(length, seed);
        let id = identity(seed, 3);
        let bytes = frame(&id, codec, shift, &raw);
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.frame_len(), bytes.len());
        prop_assert_eq!(header.verify(&bytes), Ok(()));
        let (a, b) = (a.index(length), b.index(length));
        let range = a.min(b) as u32..a.max(b) as u32 + 1;
        let got = read(&bytes, &id, length as u32, range.clone()).unwrap();
        prop_assert!(got == raw[range.start as usize..range.end as usize]);
    }

    #[test]
    fn one_flipped_bit_is_never_read(
        codec in codecs(), length in 1usize..60_000, seed: u64,
        at: prop::sample::Index, bit in 0u8..8,
    ) {
        let raw = mixed(length, seed);
        let id = identity(seed, 0);
        let mut bytes = frame(&id, codec, 14, &raw);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes, &id, length as u32, 0..length as u32).is_err());
        let verified = Header::parse(&bytes).and_then(|header| header.verify(&bytes));
        prop_assert!(verified.is_err());
        // A flip must not pass as "written by a newer version": that would never be repaired.
        let newer = matches!(verified, Err(Damage::Newer { .. }));
        prop_assert!(!newer);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(header) = Header::parse(&bytes) {
            let _ = header.verify(&bytes);
        }
    }

    /// The checksums stand in the way of random bytes; here they are made right, so that the
    /// range checks behind them are reached.
    #[test]
    fn hostile_headers_with_right_checksums_are_refused_or_read(
        shift: u8, codec in 0u8..5, flags in 0u8..2, raw_len in prop_oneof![0u32..300_000, any::<u32>()],
        segments in prop_oneof![0u32..40, any::<u32>()], consistent: bool,
        ends in prop::collection::vec(any::<u32>(), 0..80),
        body in prop::collection::vec(any::<u8>(), 0..5_000), offset: u32, want in 0usize..100_000,
    ) {
        let (shift, segments) = if consistent {
            let shift = 12 + shift % 9;
            (shift, raw_len.div_ceil(1 << shift))
        } else {
            (shift, segments)
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, codec, shift, flags]);
        bytes.extend_from_slice(&VOLUME.0);
        bytes.extend_from_slice(&identity(1, 2).block.to_bytes());
        bytes.extend_from_slice(&raw_len.to_be_bytes());
        bytes.extend_from_slice(&segments.to_be_bytes());
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        for number in 0..segments.min(2_000) {
            let end = ends.get(number as usize).copied().unwrap_or((number + 1) * 100);
            bytes.extend_from_slice(&end.to_be_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let head = bytes.len();
        bytes.extend_from_slice(&body);
        if let Ok(header) = Header::parse(&bytes) {
            let _ = header.verify(&bytes);
            let mut out = vec![0; want];
            let _ = header.unpack(&bytes[head..], offset, &mut out);
        }
    }

    #[test]
    fn codecs_refuse_garbage_without_panic(
        codec in codecs(), stored in prop::collection::vec(any::<u8>(), 0..3_000),
        length in 1usize..40_000,
    ) {
        let _ = codec.decompress(&stored, &mut vec![0; length]);
    }
}

#[test]
fn incompressible_data_is_stored_raw_without_a_copy() {
    let raw: Vec<u8> = (0..ringfs_base::limits::BLOCK_BYTES)
        .map(|i| (u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .scan(1u64, |state, byte| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            Some(byte ^ *state as u8)
        })
        .collect();
    for codec in [Codec::Lz4, Codec::Zstd] {
        let encoded = Encoded::new(&identity(1, 1), codec, 15, &raw);
        let parts = encoded.parts();
        assert_eq!(parts.len(), 2, "header and the caller's own bytes");
        assert_eq!(parts[1].as_ptr(), raw.as_ptr());
        // The string's header (9), its NUL and CR LF of the protocol stay in the 1 MiB class too.
        assert!(encoded.frame_len() + 12 <= 1 << 20);
        assert_eq!(encoded.frame_len(), raw.len() + header_bytes(32));
    }
}

#[test]
fn a_block_of_another_name_or_volume_is_told_apart() {
    let bytes = frame(&identity(7, 1), Codec::Lz4, 15, &mixed(50_000, 1));
    let refused = read(&bytes, &identity(7, 2), 50_000, 0..10).unwrap_err();
    assert_eq!(refused, Damage::OtherBlock(identity(7, 1)));
    assert_eq!(
        refused.to_string(),
        "it is block 7.1 of volume 30313233-3435-3637-3839-616263646566"
    );
    let other = Identity { volume: VolumeUuid([9; 16]), ..identity(7, 1) };
    assert!(matches!(read(&bytes, &other, 50_000, 0..10), Err(Damage::OtherBlock(_))));
}

#[test]
fn segments_swapped_within_a_block_are_noticed() {
    let raw = mixed(16_384, 5);
    let id = identity(1, 0);
    let mut bytes = frame(&id, Codec::None, 12, &raw);
    let body = header_bytes(4);
    let (first, second) = bytes[body..].split_at_mut(4096);
    first.swap_with_slice(&mut second[..4096]);
    assert_eq!(read(&bytes, &id, 16_384, 0..10), Err(Damage::SegmentCrc(0)));
}

#[test]
fn a_newer_version_is_named_and_not_called_damaged() {
    let id = identity(1, 0);
    let mut bytes = frame(&id, Codec::None, 12, &[1, 2, 3]);
    bytes[4] = 9;
    let crc = crc32c(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_be_bytes());
    let refused = Header::parse(&bytes).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "it has format version 9, and this RingFS reads up to 1: \
         upgrade RingFS on this machine"
    );
}

#[test]
fn a_frame_that_is_too_long_or_too_short_is_refused() {
    let id = identity(1, 0);
    let bytes = frame(&id, Codec::Lz4, 12, &mixed(9_000, 3));
    let header = Header::parse(&bytes).unwrap();
    for cut in 0..bytes.len() {
        let verified = Header::parse(&bytes[..cut]).and_then(|header| header.verify(&bytes[..cut]));
        assert!(matches!(verified, Err(Damage::Short { .. })), "{cut}: {verified:?}");
    }
    assert_eq!(header.verify(&[&bytes[..], b"x"].concat()), Err(Damage::Long(1)));
}
