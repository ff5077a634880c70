//! Stored bytes: what was written is read, and whatever else is read gives an error and no
//! panic. The vectors hold the format still, and a reader of 15 lines in another language shows
//! that the format and the hash are what their documentation says.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use proptest::prelude::*;
use ringfs_ring::{DecodeError, Member, NodeName, StatusOverlay, Table, ZoneName, plan};
use std::path::Path;
use std::process::Command;

fn sample(servers: u32, replicas: u8, arcs: u32) -> Table {
    let members: Vec<Member> = (0..servers)
        .map(|i| Member {
            name: NodeName::new(&format!("node-{i}")).unwrap(),
            weight: 10 + i % 3 * 5,
            zone: (i % 4 > 0).then(|| ZoneName::new(&format!("rack{}", i % 4)).unwrap()),
        })
        .collect();
    plan(None, &members, replicas, arcs).unwrap()
}

#[test]
fn what_is_encoded_is_decoded() {
    for (servers, replicas, arcs) in [(1, 1, 1), (1, 3, 64), (5, 2, 64), (300, 7, 4096)] {
        let table = sample(servers, replicas, arcs);
        assert_eq!(Table::decode(&table.encode()), Ok(table));
    }
    let mut overlay = StatusOverlay::default();
    for name in ["b", "a", "c"] {
        overlay = overlay.marking_down(&NodeName::new(name).unwrap()).unwrap();
        assert_eq!(StatusOverlay::decode(&overlay.encode()).as_ref(), Ok(&overlay));
    }
}

#[test]
fn each_way_of_being_wrong_has_its_sentence() {
    let good = sample(3, 2, 16).encode();
    let error = |bytes: &[u8]| Table::decode(bytes).unwrap_err().to_string();
    assert_eq!(error(b""), "this is no ring table of RingFS: it does not begin with its mark");
    assert_eq!(error(b"{\"json\":1}"), error(b""));
    let mut newer = good.clone();
    newer[5] = 2;
    assert_eq!(
        error(&newer),
        "the ring table has format version 2, but this program reads only up to 1; \
         use the newer ringfs that wrote it"
    );
    let mut damaged = good.clone();
    damaged[30] ^= 1;
    assert_eq!(error(&damaged), "the ring table is damaged: its checksum is wrong");
    assert_eq!(error(&good[..good.len() - 1]), "the ring table is damaged: its checksum is wrong");
    assert!(matches!(
        StatusOverlay::decode(&good),
        Err(DecodeError::NotOurs { what: "ring status" })
    ));
}

/// Puts a right checksum on wrong content, so that what lies behind it is tested too.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let sum = ringfs_ring::point_of(&body).to_be_bytes();
    body.extend_from_slice(&sum);
    body
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Table::decode(&bytes);
        let _ = StatusOverlay::decode(&bytes);
        for magic in [b"RFRT\0\x01", b"RFRO\0\x01"] {
            let body = sealed([&magic[..], &bytes].concat());
            let _ = Table::decode(&body);
            let _ = StatusOverlay::decode(&body);
        }
    }

    /// Changed bytes under a right checksum are an error, or the encoding of what was read.
    #[test]
    fn mutated_tables_are_refused_or_canonical(
        servers in 1..6u32,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = sample(servers, 3, 16).encode();
        body.truncate(body.len() - 8);
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let bytes = sealed(body);
        if let Ok(table) = Table::decode(&bytes) {
            prop_assert_eq!(table.encode(), bytes);
        }
    }

    #[test]
    fn mutated_overlays_are_refused_or_canonical(
        names in prop::collection::btree_set("[a-z][a-z0-9]{0,5}", 0..5),
        version in any::<u64>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let down = names.iter().map(|n| NodeName::new(n).unwrap()).collect();
        let overlay = StatusOverlay { version, down };
        prop_assert_eq!(StatusOverlay::decode(&overlay.encode()), Ok(overlay.clone()));
        let mut body = overlay.encode();
        body.truncate(body.len() - 8);
        let at = at.index(body.len());
        body[at] = value;
        let bytes = sealed(body);
        if let Ok(read) = StatusOverlay::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}

const KEYS: [&str; 8] = ["hello", "", "a", "ring", "block-0", "block-1", "0123456789", "RingFS"];

/// The vectors as the code of today writes them. The optimiser's choices are part of them: all
/// clients need the same table only once it is stored, but a change should be a decision.
fn vectors() -> String {
    let mut out = String::from("[\n");
    let tables = [sample(1, 3, 16), sample(3, 2, 64), sample(7, 3, 4096)];
    for (i, table) in tables.iter().enumerate() {
        let hex: String = table.encode().iter().map(|b| format!("{b:02x}")).collect();
        let keys: Vec<String> = KEYS
            .iter()
            .map(|key| {
                let key_bytes = key.as_bytes();
                let names: Vec<String> = table
                    .owners_of(key_bytes)
                    .iter()
                    .map(|o| format!("\"{}\"", table.member(*o).unwrap().name))
                    .collect();
                format!(
                    "  {{\"key\": \"{key}\", \"point\": \"{:016x}\", \"arc\": {}, \"owners\": [{}]}}",
                    ringfs_ring::point_of(key_bytes),
                    table.arc_of(key_bytes).0,
                    names.join(", ")
                )
            })
            .collect();
        let comma = if i + 1 < tables.len() { "," } else { "" };
        out += &format!(
            " {{\"epoch\": {}, \"table\": \"{hex}\", \"keys\": [\n{}\n ]}}{comma}\n",
            table.epoch(),
            keys.join(",\n")
        );
    }
    out + "]\n"
}

fn test_file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// To accept a deliberate change: `RINGFS_WRITE_VECTORS=1 cargo test -p ringfs-ring vectors`.
#[test]
fn vectors_are_what_is_written_today() {
    let (path, now) = (test_file("vectors.json"), vectors());
    if std::env::var_os("RINGFS_WRITE_VECTORS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored == now, "the encoding or the placement differs from {}", path.display());
    assert!(stored.contains(r#""key": "hello", "point": "aaf4c61ddcc5e8a2", "arc": 2210"#));
}

#[test]
fn a_short_python_reader_agrees_with_the_vectors() {
    let output = Command::new("python3")
        .arg(test_file("vectors.py"))
        .arg(test_file("vectors.json"))
        .output()
        .expect("python3 is needed for this test: install it (apt-get install python3)");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    assert_eq!(said.trim(), "3 tables, 24 keys agree");
}
