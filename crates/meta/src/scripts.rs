//! The scripts, composed from their files and the fragments that they share.

use ringfs_link::Script;

macro_rules! scripts {
    ($($name:ident = $label:literal: $($file:literal)+;)*) => {
        $(
            pub static $name: Script = Script::from_static(
                $label,
                concat!($(include_str!(concat!("../scripts/", $file, ".lua")), "\n"),+),
            );
        )*
    };
}

scripts! {
    ALLOC = "alloc": "plain" "alloc";
    CHUNKS = "chunks": "plain" "inode" "chunks";
    CLONE = "clone": "begin" "inode" "size" "name" "grow" "shared" "share_more" "clone";
    COMMIT = "commit": "begin" "inode" "size" "commit";
    COMPACT = "compact": "begin" "inode" "shared" "compact";
    CREATE = "create": "begin" "inode" "name" "grow" "acl" "inherit" "create";
    EXTENTS = "extents": "plain" "inode" "extents";
    FORMAT = "format": "plain" "format";
    HEARTBEAT = "heartbeat": "plain" "heartbeat";
    LOCK = "lock": "begin" "inode" "locks" "lock_circle" "lock";
    LOCK_CANCEL = "lock_cancel": "begin" "inode" "locks" "lock_cancel";
    LOCK_TEST = "lock_test": "plain" "inode" "locks" "lock_test";
    LINK = "link": "begin" "inode" "name" "grow" "link";
    LOOKUP = "lookup": "plain" "inode" "name" "lookup";
    OPEN = "open": "plain" "inode" "open";
    PURGE = "purge": "begin" "inode" "size" "shared" "purge";
    PURGEABLE = "purgeable": "plain" "purgeable";
    READDIR = "readdir": "plain" "inode" "readdir";
    READLINK = "readlink": "plain" "inode" "readlink";
    REAP = "reap": "plain" "inode" "locks" "leave" "reap";
    RELEASE = "release": "plain" "release";
    REMOVEXATTR = "removexattr": "begin" "inode" "removexattr";
    RENAME = "rename": "begin" "inode" "size" "name" "grow" "shared" "drop" "rename";
    RING = "ring": "plain" "ring";
    SEAL = "seal": "begin" "seal";
    SESSION_END = "session_end": "plain" "inode" "locks" "leave" "session_end";
    SESSION_START = "session_start": "plain" "session_start";
    SET_RING = "set_ring": "plain" "set_ring";
    SETACL = "setacl": "begin" "inode" "setacl";
    SETATTR = "setattr": "begin" "inode" "size" "shared" "acl" "setattr";
    SHARE = "share": "begin" "inode" "size" "shared" "share_more" "share";
    TMPFILE = "tmpfile": "begin" "inode" "acl" "inherit" "tmpfile";
    SETXATTR = "setxattr": "begin" "inode" "setxattr";
    UNLOCK = "unlock": "begin" "inode" "locks" "unlock";
    UNLINK = "unlink": "begin" "inode" "size" "name" "shared" "drop" "unlink";
    USAGE = "usage": "plain" "usage";
    ZERO = "zero": "begin" "inode" "size" "shared" "zero";
}
