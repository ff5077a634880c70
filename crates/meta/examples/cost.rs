//! What one run of a script costs the server, without the network: thousands of them pipelined on
//! one connection. Prints CPU time of the server (so that other load on the machine does not
//! count) and the server's own figure of the time inside the script.
//!
//! `cargo run --release -p ringfs-meta --example cost -- [count]`

use ringfs_base::{InodeId, SessionId, Timestamp, VolumeName, VolumeUuid};
use ringfs_link::{Cmd, Script, Timeouts};
use ringfs_meta::{
    Attr, AttrFlags, Codec, Durability, FileKind, NameHash, SessionInfo, Volume, VolumeConfig,
};
use ringfs_testkit::RedisServer;

const BATCH: u64 = 200;
const NAMES_PER_DIRECTORY: u64 = 1000;
const CONTROL: &[u8] = b"rfs:{cost/0}:c";

macro_rules! script {
    ($name:literal: $($file:literal)+) => {
        Script::from_static(
            $name,
            concat!($(include_str!(concat!("../scripts/", $file, ".lua")), "\n"),+),
        )
    };
}

struct Load {
    server: RedisServer,
    session: SessionId,
    sequence: u64,
}

impl Load {
    fn cpu_us(&self) -> f64 {
        let info = self.server.info("cpu");
        let part = |key: &str| info[key].parse::<f64>().expect("a number");
        (part("used_cpu_user") + part("used_cpu_sys")) * 1e6
    }

    /// Runs a script `count` times; `args` gives the arguments after the header.
    fn measure(
        &mut self,
        script: &Script,
        count: u64,
        header: bool,
        args: impl Fn(u64) -> Vec<Vec<u8>>,
    ) {
        let mut conn = self.server.conn();
        conn.load(script).expect("SCRIPT LOAD");
        self.server.reset_stats();
        let before = self.cpu_us();
        for first in (0..count).step_by(BATCH as usize) {
            let mut cmds = Vec::new();
            for i in first..(first + BATCH).min(count) {
                let mut cmd = Cmd::new("EVALSHA").arg(script.sha()).int(1).arg(CONTROL);
                if header {
                    let previous = self.sequence;
                    self.sequence += 1;
                    let lane = [0; 2];
                    cmd = cmd.arg(
                        [
                            &self.session.to_bytes()[..],
                            &lane,
                            &self.sequence.to_be_bytes(),
                            &previous.to_be_bytes(),
                        ]
                        .concat(),
                    );
                }
                cmds.push(cmd.args(args(i)));
            }
            for reply in conn.pipeline(&cmds).expect("a connection") {
                let reply = reply.expect("a reply");
                assert_eq!(reply.as_bytes().and_then(|bytes| bytes.first()), Some(&0), "{reply:?}");
            }
        }
        let cpu = (self.cpu_us() - before) / count as f64;
        let stats = self.server.info("commandstats");
        let inside = stats["cmdstat_evalsha"].split(',').nth(2).unwrap_or("").to_owned();
        println!("{:10} {cpu:6.2} us of CPU a run; {inside}", script.name);
    }
}

fn attr(kind: FileKind, ino: InodeId) -> Attr {
    let now = Timestamp(1_700_000_000_123_456_789);
    let is_dir = kind == FileKind::Directory;
    Attr {
        ino,
        kind,
        perm: 0o755,
        flags: AttrFlags(0),
        nlink: 1 + u32::from(is_dir),
        uid: 1000,
        gid: 1000,
        size: 0,
        mtime: now,
        ctime: now,
        atime: now,
        btime: now,
        rdev: 0,
        parent: is_dir.then_some(InodeId::ROOT),
        entries: 0,
        buckets: u32::from(is_dir),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(200_000), |text| text.parse())?;
    let server = RedisServer::start_default();
    let config = VolumeConfig {
        name: VolumeName::new("cost")?,
        uuid: VolumeUuid([1; 16]),
        created: 0,
        replicas: 1,
        block_bytes: 4096,
        codec: Codec::None,
        segment_bytes: 4096,
        inline_max: 8192,
        durability: Durability::Memory,
        inodes_max: 0,
        bytes_max: 0,
        nodes: Vec::new(),
    };
    let now = Timestamp(1_700_000_000_123_456_789);
    let volume = Volume::format(&server.endpoint(), Timeouts::default(), &config, 0, 0, now)?;
    let session = volume.start_session(&SessionInfo::default())?.id();
    let mut load = Load { server, session, sequence: 0 };
    let create = script!("create": "begin" "inode" "quota" "name" "grow" "acl" "inherit" "create");
    let name = |i: u64| format!("file-{i:011}").into_bytes();
    let hash = |name: &[u8]| NameHash::of(name).bucket_bits.to_be_bytes();
    let first_file = 1 << 20;
    let dir_of = |i: u64| InodeId(64 + i / NAMES_PER_DIRECTORY);

    // The machine's own speed: what is left of a run when the script does nothing.
    let nothing = Script::from_static("nothing", "return '\\0'");
    load.measure(&nothing, count, false, |_| vec![vec![0; 26], vec![0; 20]]);
    print!("mkdir:     ");
    load.measure(&create, count / NAMES_PER_DIRECTORY, true, |i| {
        let (name, ino) = (name(i), InodeId(64 + i));
        let ids = [&InodeId::ROOT.to_bytes()[..], &ino.to_bytes(), &hash(&name)].concat();
        vec![ids, name, attr(FileKind::Directory, ino).pack()]
    });
    print!("file:      ");
    load.measure(&create, count, true, |i| {
        let (name, ino) = (name(i), InodeId(first_file + i));
        let ids = [&dir_of(i).to_bytes()[..], &ino.to_bytes(), &hash(&name)].concat();
        vec![ids, name, attr(FileKind::File, ino).pack()]
    });
    let lookup = script!("lookup": "plain" "inode" "name" "lookup");
    load.measure(&lookup, count, false, |i| {
        let name = name(i);
        vec![[&dir_of(i).to_bytes()[..], &hash(&name)].concat(), name]
    });
    let open = script!("open": "plain" "inode" "open");
    load.measure(&open, count, false, |i| {
        vec![[InodeId(first_file + i).to_bytes(), session.to_bytes()].concat()]
    });
    let readdir = script!("readdir": "plain" "inode" "place" "readdir");
    print!("512 names: ");
    load.measure(&readdir, count / 1000, false, |i| {
        vec![[&InodeId(64 + i).to_bytes()[..], &[0; 4], &512u32.to_be_bytes(), &[1]].concat()]
    });
    let setattr = script!("setattr": "begin" "inode" "size" "quota" "shared" "acl" "setattr");
    load.measure(&setattr, count, true, |i| {
        let mut change = InodeId(first_file + i).to_bytes().to_vec();
        change.extend([1, 1, 0o200]);
        change.extend([0; 32]);
        change.extend((now.0 + 1).to_be_bytes());
        vec![change]
    });
    let commit = script!("commit": "begin" "inode" "size" "quota" "commit");
    let head = |i: u64, kind: u8| {
        let ino = InodeId(first_file + i).to_bytes();
        [&ino[..], &[kind, 0], &[0; 8], &now.0.to_be_bytes(), &8192u32.to_be_bytes()].concat()
    };
    print!("inline:    ");
    load.measure(&commit, count / 10, true, |i| vec![head(i, 0), vec![0; 8], vec![7; 100]]);
    print!("extents:   ");
    load.measure(&commit, count / 10, true, |i| {
        vec![
            head(i, 1),
            b"0".to_vec(),
            vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1],
        ]
    });
    let rename = script!("rename": "begin" "inode" "size" "quota" "border" "name" "grow" "shared" "drop" "toss" "rename");
    load.measure(&rename, count, true, |i| {
        let (old, new) = (name(i), format!("name-{i:011}").into_bytes());
        let dir = dir_of(i).to_bytes();
        let ids = [&dir[..], &hash(&old), &dir, &hash(&new), &now.0.to_be_bytes(), &[0; 10]];
        vec![ids.concat(), old, new]
    });
    let unlink = script!("unlink": "begin" "inode" "size" "quota" "name" "grow" "shared" "drop" "toss" "unlink");
    load.measure(&unlink, count, true, |i| {
        let name = format!("name-{i:011}").into_bytes();
        let ino = InodeId(first_file + i).to_bytes();
        let dir = dir_of(i).to_bytes();
        vec![[&dir[..], &hash(&name), &now.0.to_be_bytes(), &[1], &ino, &[0]].concat(), name]
    });
    Ok(())
}
