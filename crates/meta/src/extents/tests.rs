use super::*;
use proptest::prelude::*;

const SPAN: usize = 256;

/// What each byte shows: the slice and offset it comes from, `Zeros` or `Below`.
fn painted(records: &[ExtentRecord]) -> Vec<Source> {
    let mut bytes = vec![Source::Below; SPAN];
    for record in records {
        for i in 0..record.len {
            bytes[(record.pos + i) as usize] = if record.is_hole() {
                Source::Zeros
            } else {
                Source::Slice {
                    slice: record.slice,
                    off: record.off + i,
                    slice_len: record.slice_len,
                }
            };
        }
    }
    bytes
}

fn spread(pieces: &[Piece]) -> Vec<Source> {
    let mut out = Vec::new();
    for piece in pieces {
        for i in 0..piece.len {
            out.push(match piece.source {
                Source::Slice { slice, off, slice_len } => {
                    Source::Slice { slice, off: off + i, slice_len }
                }
                other => other,
            });
        }
    }
    out
}

fn record() -> impl Strategy<Value = ExtentRecord> {
    (0..SPAN as u32, 0u32..64, 0u64..6, 0u32..8).prop_map(|(pos, len, slice, off)| {
        let len = len.min(SPAN as u32 - pos);
        if slice == 0 {
            ExtentRecord::hole(pos, len)
        } else {
            ExtentRecord { pos, len, slice: SliceId(slice), off, slice_len: 100 }
        }
    })
}

proptest! {
    #[test]
    fn resolve_shows_what_painting_shows(
        records in proptest::collection::vec(record(), 0..24),
        from in 0..SPAN as u32, len in 0..SPAN as u32,
    ) {
        let to = (from + len).min(SPAN as u32);
        let pieces = resolve(&records, from..to);
        prop_assert!(pieces.iter().all(|piece| piece.len > 0));
        prop_assert!(pieces.windows(2).all(|w| w[0].pos + w[0].len == w[1].pos));
        prop_assert_eq!(pieces.first().map_or(from, |piece| piece.pos), from);
        prop_assert_eq!(spread(&pieces), painted(&records)[from as usize..to as usize].to_vec());
    }

    #[test]
    fn normalise_changes_no_byte_and_is_a_fixed_point(
        records in proptest::collection::vec(record(), 0..24), drop_holes: bool,
    ) {
        let short = normalise(&records, drop_holes);
        let mut expected = painted(&records);
        let mut found = painted(&short);
        if drop_holes {
            for byte in expected.iter_mut().chain(found.iter_mut()) {
                if *byte == Source::Below { *byte = Source::Zeros; }
            }
        }
        prop_assert_eq!(found, expected);
        prop_assert!(short.windows(2).all(|w| w[0].end() <= u64::from(w[1].pos)));
        prop_assert_eq!(normalise(&short, drop_holes), short.clone());
        for dropped in dropped_slices(&records, &short) {
            prop_assert!(!dropped.is_hole());
            prop_assert!(short.iter().all(|kept| kept.slice != dropped.slice));
        }
    }

    #[test]
    fn lists_read_what_they_wrote(records in proptest::collection::vec(record(), 0..24)) {
        let bytes = ExtentRecord::pack_all(&records);
        prop_assert_eq!(ExtentRecord::unpack_all(&bytes), Some(records));
    }

    #[test]
    fn any_bytes_are_refused_or_survive_a_round_trip(
        bytes in proptest::collection::vec(any::<u8>(), 0..120)
    ) {
        if let Some(records) = ExtentRecord::unpack_all(&bytes) {
            prop_assert_eq!(ExtentRecord::pack_all(&records), bytes);
        }
    }
}

#[test]
fn a_record_that_leaves_its_chunk_or_slice_is_refused() {
    let chunk = ringfs_base::limits::CHUNK_BYTES as u32;
    let fits = ExtentRecord { pos: chunk - 1, len: 1, slice: SliceId(1), off: 0, slice_len: 1 };
    assert!(ExtentRecord::unpack_all(&fits.pack()).is_some());
    for bad in [
        ExtentRecord { pos: chunk, ..fits },
        ExtentRecord { off: 1, ..fits },
        ExtentRecord { len: u32::MAX, slice_len: u32::MAX, ..fits },
    ] {
        assert_eq!(ExtentRecord::unpack_all(&bad.pack()), None, "{bad:?}");
    }
}
