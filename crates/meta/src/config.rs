//! What a volume is: fixed when it is formatted, except for its limits and its nodes.

use ringfs_base::limits::FORMAT_VERSION;
use ringfs_base::{NodeName, VolumeName, VolumeUuid};
use std::collections::BTreeMap;

/// When fsync and close may say that the metadata are safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When the primary has applied them.
    #[default]
    Memory,
    /// When so many replicas have them too (WAIT).
    Replica(u8),
    /// When they are on the primary's disk (appendfsync always, or WAITAOF).
    Disk,
}

/// How blocks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// A block server of the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Its name, by which data are placed.
    pub name: NodeName,
    /// Its URL without a password.
    pub url: String,
}

/// The record of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// Its name.
    pub name: VolumeName,
    /// Its random identity.
    pub uuid: VolumeUuid,
    /// Seconds since 1970 when it was formatted.
    pub created: i64,
    /// Copies of each block.
    pub replicas: u8,
    /// Payload bytes of a full block.
    pub block_bytes: u32,
    /// Compression of blocks.
    pub codec: Codec,
    /// Bytes of a block that are compressed and checksummed together.
    pub segment_bytes: u32,
    /// Largest file kept inline, in bytes.
    pub inline_max: u32,
    /// When metadata are safe.
    pub durability: Durability,
    /// Most inodes; 0 = no limit.
    pub inodes_max: u64,
    /// Most bytes; 0 = no limit.
    pub bytes_max: u64,
    /// The block servers.
    pub nodes: Vec<NodeRecord>,
}

impl Durability {
    fn encode(self) -> String {
        match self {
            Durability::Memory => "memory".into(),
            Durability::Replica(count) => format!("replica {count}"),
            Durability::Disk => "disk".into(),
        }
    }

    fn decode(text: &str) -> Option<Durability> {
        match text.split_once(' ') {
            None if text == "memory" => Some(Durability::Memory),
            None if text == "disk" => Some(Durability::Disk),
            Some(("replica", count)) => Some(Durability::Replica(count.parse().ok()?)),
            _ => None,
        }
    }
}

impl Codec {
    const NAMES: [(Codec, &'static str); 3] =
        [(Codec::None, "none"), (Codec::Lz4, "lz4"), (Codec::Zstd, "zstd")];

    /// Its name in the volume's record.
    pub fn name(self) -> &'static str {
        Codec::NAMES.iter().find(|(codec, _)| *codec == self).map_or("none", |(_, name)| name)
    }

    /// Reads [`Self::name`].
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::NAMES.iter().find(|(_, known)| *known == name).map(|(codec, _)| *codec)
    }
}

/// One node a line: name, a space, URL.
pub(crate) fn encode_nodes(nodes: &[NodeRecord]) -> String {
    nodes.iter().map(|node| format!("{} {}\n", node.name, node.url)).collect()
}

pub(crate) fn decode_nodes(text: &str) -> Option<Vec<NodeRecord>> {
    text.lines()
        .map(|line| {
            let (name, url) = line.split_once(' ')?;
            Some(NodeRecord { name: NodeName::new(name).ok()?, url: url.to_owned() })
        })
        .collect()
}

impl VolumeConfig {
    /// The fields of the record in Redis, `format` first; the limits are kept elsewhere.
    pub(crate) fn encode(&self) -> Vec<(&'static str, String)> {
        vec![
            ("format", FORMAT_VERSION.to_string()),
            ("uuid", self.uuid.to_string()),
            ("name", self.name.to_string()),
            ("created", self.created.to_string()),
            ("shards", "1".into()),
            ("replicas", self.replicas.to_string()),
            ("block_bytes", self.block_bytes.to_string()),
            ("codec", self.codec.name().into()),
            ("segment_bytes", self.segment_bytes.to_string()),
            ("inline_max", self.inline_max.to_string()),
            ("durability", self.durability.encode()),
            ("nodes", encode_nodes(&self.nodes)),
        ]
    }

    /// Reads [`Self::encode`]; the name of the field that is missing or wrong otherwise.
    pub(crate) fn decode(
        fields: &BTreeMap<String, String>,
        limits: (u64, u64),
    ) -> Result<VolumeConfig, &'static str> {
        fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
            text.parse().ok()
        }
        fn read<T>(
            fields: &BTreeMap<String, String>,
            name: &'static str,
            decode: impl Fn(&str) -> Option<T>,
        ) -> Result<T, &'static str> {
            fields.get(name).and_then(|text| decode(text)).ok_or(name)
        }
        Ok(VolumeConfig {
            name: read(fields, "name", |text| VolumeName::new(text).ok())?,
            uuid: read(fields, "uuid", VolumeUuid::parse)?,
            created: read(fields, "created", number)?,
            replicas: read(fields, "replicas", number)?,
            block_bytes: read(fields, "block_bytes", number)?,
            codec: read(fields, "codec", Codec::from_name)?,
            segment_bytes: read(fields, "segment_bytes", number)?,
            inline_max: read(fields, "inline_max", number)?,
            durability: read(fields, "durability", Durability::decode)?,
            inodes_max: limits.0,
            bytes_max: limits.1,
            nodes: read(fields, "nodes", decode_nodes)?,
        })
    }
}

/// Reads a volume's record from its fields; the error names the one that is wrong.
#[cfg(feature = "fuzzing")]
pub fn decode_config(fields: &BTreeMap<String, String>) -> Result<VolumeConfig, &'static str> {
    VolumeConfig::decode(fields, (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_what_it_wrote() {
        for durability in [Durability::Memory, Durability::Replica(2), Durability::Disk] {
            let config = VolumeConfig {
                name: VolumeName::new("demo").unwrap(),
                uuid: VolumeUuid([7; 16]),
                created: 1_700_000_000,
                replicas: 2,
                block_bytes: 4096,
                codec: Codec::Zstd,
                segment_bytes: 32_768,
                inline_max: 8192,
                durability,
                inodes_max: 5,
                bytes_max: 6,
                nodes: vec![NodeRecord {
                    name: NodeName::new("n1").unwrap(),
                    url: "redis://127.0.0.1:1".into(),
                }],
            };
            let mut fields: BTreeMap<String, String> =
                config.encode().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            assert_eq!(VolumeConfig::decode(&fields, (5, 6)), Ok(config));
            fields.insert("codec".into(), "brotli".into());
            assert_eq!(VolumeConfig::decode(&fields, (5, 6)), Err("codec"));
        }
    }
}
