//! Copies that are damaged, swapped or of a newer format: found, not served, put right, counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ring;

use ring::{Ring, block, noise, text};
use ringfs_base::BlockId;
use ringfs_store::{CopyState, Damage, Depth, ErrorKind, Scope, StoreError, Surplus};

/// Reads small parts and the whole until the damaged copy must have been met.
fn read_everywhere(ring: &Ring, id: BlockId, data: &[u8]) {
    let len = data.len() as u32;
    for offset in (0..len - 100).step_by(10_000) {
        let mut out = [0; 100];
        ring.store.read(id, len, offset, &mut out).unwrap();
        assert!(out == data[offset as usize..offset as usize + 100]);
    }
    ring.read(id, data);
}

fn damaged_copy_is_found_and_repaired(damage: impl Fn(&Ring, usize, BlockId), data: &[u8]) {
    let ring = Ring::new(3, 2);
    let id = block(77, 1);
    ring.write(id, data);
    read_everywhere(&ring, id, data);
    assert_eq!(ring.store.stats().bad_copies, 0);
    let good = ring.raw(ring.owners(id)[0], id);
    let victim = first_asked_of(&ring, id, data);
    damage(&ring, victim, id);
    read_everywhere(&ring, id, data);
    ring.settle();
    let stats = ring.store.stats();
    // Of a copy that was cut short a part beyond its end is missing.
    assert!(stats.bad_copies + stats.missing_copies >= 1, "{stats:?}");
    assert!(stats.copies_repaired >= 1, "{stats:?}");
    assert!(ring.raw(victim, id) == good, "the copy is as it was");
    let copies = ring.store.check(id, Depth::Contents, Scope::Owners);
    assert!(copies.iter().all(|copy| copy.state == CopyState::Good), "{copies:?}");
}

/// The owner that a read of this block asks first.
fn first_asked_of(ring: &Ring, id: BlockId, data: &[u8]) -> usize {
    for server in &ring.servers {
        server.reset_stats();
    }
    ring.read(id, data);
    let asked = |owner: &usize| ring.servers[*owner].commandstats().contains_key("get");
    ring.owners(id).into_iter().find(asked).expect("one was asked")
}

#[test]
fn a_bit_flipped_in_the_header_is_found_and_repaired() {
    for at in [1, 4, 5, 6, 7, 20, 30, 37, 45, 50, 60] {
        damaged_copy_is_found_and_repaired(
            |ring, victim, id| ring.flip(victim, id, at),
            &text(300_000),
        );
    }
}

#[test]
fn a_bit_flipped_in_a_segment_is_found_and_repaired() {
    for (data, at) in [(text(300_000), 2_000), (noise(300_000, 2), 150_000)] {
        damaged_copy_is_found_and_repaired(|ring, victim, id| ring.flip(victim, id, at), &data);
    }
}

#[test]
fn a_block_swapped_with_another_is_found_by_its_identity() {
    damaged_copy_is_found_and_repaired(
        |ring, victim, id| {
            let other = block(500, 0);
            ring.write(other, &noise(300_000, 9));
            let value = ring.raw(ring.owners(other)[0], other);
            ring.put_raw(victim, id, &value);
        },
        &text(300_000),
    );
}

#[test]
fn a_copy_cut_short_or_grown_is_found_and_repaired() {
    let data = noise(300_000, 3);
    damaged_copy_is_found_and_repaired(
        |ring, victim, id| {
            let value = ring.raw(victim, id);
            ring.put_raw(victim, id, &value[..value.len() - 10]);
        },
        &data,
    );
    damaged_copy_is_found_and_repaired(
        |ring, victim, id| {
            let value = ring.raw(victim, id);
            ring.put_raw(victim, id, &[&value[..], b"more"].concat());
        },
        &data,
    );
    damaged_copy_is_found_and_repaired(|ring, victim, id| ring.put_raw(victim, id, b"R"), &data);
}

#[test]
fn with_all_copies_bad_nothing_is_served_and_the_error_says_what_is_wrong() {
    let ring = Ring::new(2, 2);
    let id = block(3, 0);
    let data = noise(100_000, 1);
    ring.write(id, &data);
    ring.flip(0, id, 60_000);
    ring.flip(1, id, 60_000);
    let mut out = vec![0; data.len()];
    let error = ring.store.read(id, 100_000, 0, &mut out).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { bad, .. } if bad.len() == 2), "{error}");
    assert!(error.to_string().contains("the copy on n0 is bad: segment 1 fails"), "{error}");
    assert_eq!(error.kind(), ErrorKind::GiveUp);
    // A part that is whole in spite of it is still served.
    ring.store.read(id, 100_000, 0, &mut out[..1000]).unwrap();
    assert!(out[..1000] == data[..1000]);
    // Repair has nothing to repair from, and destroys nothing.
    let before = ring.raw(0, id);
    assert!(matches!(ring.store.repair(id, Surplus::Keep), Err(StoreError::Corrupt { .. })));
    assert!(ring.raw(0, id) == before);
}

#[test]
fn the_same_key_in_another_volume_is_not_taken_for_ours() {
    let ring = Ring::new(1, 1);
    let id = block(3, 0);
    ring.write(id, b"ten bytes.");
    let stranger = ringfs_store::Store::new(
        &ringfs_base::VolumeName::new(ring::VOLUME).unwrap(),
        ringfs_base::VolumeUuid([1; 16]),
        vec![ringfs_store::Node {
            name: ringfs_base::NodeName::new("n0").unwrap(),
            endpoint: ring.servers[0].endpoint(),
        }],
        ring.placement.clone(),
        Default::default(),
    );
    let error = stranger.read(id, 10, 0, &mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("it is block 3.0 of volume"), "{error}");
}

#[test]
fn a_length_that_differs_from_the_extents_is_refused() {
    let ring = Ring::new(1, 1);
    let id = block(3, 0);
    ring.write(id, b"ten bytes.");
    let error = ring.store.read(id, 9, 0, &mut [0; 9]).unwrap_err();
    assert!(error.to_string().contains("it holds 10 bytes where 9 belong"), "{error}");
}

#[test]
fn a_frame_of_a_newer_version_is_refused_clearly_and_never_overwritten() {
    let ring = Ring::new(2, 2);
    let id = block(3, 0);
    ring.write(id, b"ten bytes.");
    let mut newer = ring.raw(0, id);
    newer[4] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &newer[..44]) as u32;
    newer[44..48].copy_from_slice(&crc.to_be_bytes());
    ring.put_raw(0, id, &newer);
    // The other copy is served.
    ring.read(id, b"ten bytes.");
    ring.store.repair(id, Surplus::Keep).unwrap();
    ring.settle();
    assert!(ring.raw(0, id) == newer);
    let copies = ring.store.check(id, Depth::Header, Scope::Owners);
    let newer_state = CopyState::Bad(Damage::Newer { found: 2 });
    assert!(copies.iter().any(|copy| copy.state == newer_state), "{copies:?}");
    // Without it, the user is told what to do.
    ring.put_raw(1, id, &newer);
    let error = ring.store.read(id, 10, 0, &mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("upgrade RingFS on this machine"), "{error}");
}

#[test]
fn a_key_of_another_type_counts_as_bad_and_is_replaced() {
    let ring = Ring::new(2, 2);
    let id = block(3, 0);
    ring.write(id, b"ten bytes.");
    ring.remove_raw(0, id);
    ring.servers[0].command(&["LPUSH", &ring::key(id), "x"]);
    ring.read(id, b"ten bytes.");
    let repaired = ring.store.repair(id, Surplus::Keep).unwrap();
    assert_eq!((repaired.owners_good, repaired.written), (2, 1));
    assert_eq!(ring.raw(0, id), ring.raw(1, id));
}
