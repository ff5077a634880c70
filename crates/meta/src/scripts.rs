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
    CLONE = "clone": "begin" "inode" "size" "quota" "name" "grow" "shared" "share_more" "clone";
    COMMIT = "commit": "begin" "inode" "size" "quota" "set_id" "commit";
    COMPACT = "compact": "begin" "inode" "shared" "compact";
    CREATE = "create": "begin" "inode" "quota" "name" "grow" "acl" "inherit" "create";
    EXTENTS = "extents": "plain" "inode" "extents";
    FORMAT = "format": "plain" "format";
    HEARTBEAT = "heartbeat": "plain" "heartbeat";
    LOCK = "lock": "begin" "inode" "locks" "lock_circle" "lock";
    LOCK_CANCEL = "lock_cancel": "begin" "inode" "locks" "lock_cancel";
    LOCK_TEST = "lock_test": "plain" "inode" "locks" "lock_test";
    LINK = "link": "begin" "inode" "size" "quota" "border" "name" "grow" "link";
    LOST = "lost": "plain" "inode" "lost";
    LOOKUP = "lookup": "plain" "inode" "name" "lookup";
    MOVE = "move": "plain" "coordinator" "move";
    OBSERVE = "observe": "plain" "observe";
    OPEN = "open": "plain" "inode" "open";
    PURGE = "purge": "begin" "inode" "size" "quota" "shared" "purge";
    PURGEABLE = "purgeable": "plain" "purgeable";
    QUOTA_CLEAR = "quota_clear": "plain" "inode" "quota" "quota_clear";
    QUOTA_COUNT = "quota_count": "plain" "inode" "size" "quota" "quota_count";
    QUOTA_OWNERS = "quota_owners": "plain" "quota_owners";
    QUOTA_REMOVE = "quota_remove": "plain" "inode" "quota" "quota_remove";
    QUOTA_SET = "quota_set": "plain" "inode" "size" "quota" "border" "quota_set";
    QUOTA_TREE = "quota_tree": "plain" "inode" "place" "size" "quota" "border" "quota_tree";
    READDIR = "readdir": "plain" "inode" "place" "readdir";
    READLINK = "readlink": "plain" "inode" "readlink";
    REAP = "reap": "plain" "inode" "locks" "leave" "reap";
    RELEASE = "release": "plain" "release";
    REMOVEXATTR = "removexattr": "begin" "inode" "removexattr";
    RENAME = "rename": "begin" "inode" "size" "quota" "border" "name" "grow" "shared" "drop" "toss" "rename";
    RING = "ring": "plain" "ring";
    SEAL = "seal": "begin" "seal";
    SESSION_END = "session_end": "plain" "inode" "locks" "leave" "session_end";
    SESSION_START = "session_start": "plain" "session_start";
    SET_RING = "set_ring": "plain" "coordinator" "set_ring";
    SETACL = "setacl": "begin" "inode" "setacl";
    SETATTR = "setattr": "begin" "inode" "size" "quota" "shared" "acl" "setattr";
    SHARE = "share": "begin" "inode" "size" "quota" "shared" "share_more" "set_id" "share";
    TMPFILE = "tmpfile": "begin" "inode" "quota" "acl" "inherit" "tmpfile";
    TRASH_SET = "trash_set": "plain" "inode" "quota" "name" "grow" "trash_set";
    TRASH_TURN = "trash_turn": "plain" "trash_turn";
    SETXATTR = "setxattr": "begin" "inode" "setxattr";
    UNLOCK = "unlock": "begin" "inode" "locks" "unlock";
    UNLINK = "unlink": "begin" "inode" "size" "quota" "name" "grow" "shared" "drop" "toss" "unlink";
    USAGE = "usage": "plain" "inode" "quota" "usage";
    VERDICT = "verdict": "plain" "coordinator" "verdict";
    WORKER = "worker": "plain" "worker";
    ZERO = "zero": "begin" "inode" "size" "quota" "shared" "set_id" "zero";
}
