//! The configuration file of a local server.

use super::directory::{Directory, Layout, META, ServerPlan};
use crate::failure::Failure;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// Writes a server's configuration; returns where.
pub fn write(
    directory: &Directory,
    layout: &Layout,
    server: &ServerPlan,
) -> Result<PathBuf, Failure> {
    let home = directory.server(&server.name);
    let failed = |e: &std::io::Error| Failure::io(format_args!("write into {}", home.display()), e);
    fs::create_dir_all(home.join("data")).map_err(|e| failed(&e))?;
    let path = home.join("redis.conf");
    fs::write(&path, text(&home.display().to_string(), layout, server)).map_err(|e| failed(&e))?;
    Ok(path)
}

fn text(home: &str, layout: &Layout, server: &ServerPlan) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "{words}").ok();
    };
    line("# Written by `ringfs local start`; changes are lost at the next start.");
    line("bind 127.0.0.1");
    line("protected-mode yes");
    line(&format!("port {}", server.port));
    line("daemonize no");
    line(&format!("dir {}", quoted(&format!("{home}/data"))));
    line(&format!("logfile {}", quoted(&format!("{home}/redis.log"))));
    line("save \"\"");
    // RingFS never stores anything that may be thrown away.
    line("maxmemory-policy noeviction");
    if layout.maxmemory > 0 && server.name != META {
        line(&format!("maxmemory {}", layout.maxmemory));
    }
    if !layout.memory_only {
        line("appendonly yes");
        line("appendfsync everysec");
        line("no-appendfsync-on-rewrite yes");
    }
    text
}

/// A word of a Redis configuration file.
fn quoted(word: &str) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reachable_from_outside_and_nothing_is_evicted() {
        let mut layout = Layout::new("redis-server".into(), 1 << 20, false);
        let node = ServerPlan { name: "node-1".into(), port: 7401 };
        let conf = text("/a \"b\"", &layout, &node);
        for line in [
            "bind 127.0.0.1",
            "maxmemory-policy noeviction",
            "maxmemory 1048576",
            "appendonly yes",
            "dir \"/a \\\"b\\\"/data\"",
        ] {
            assert!(conf.lines().any(|l| l == line), "{line}\n{conf}");
        }
        layout.memory_only = true;
        assert!(!text("/a", &layout, &node).contains("appendonly"));
        let meta = ServerPlan { name: META.into(), port: 7400 };
        assert!(!text("/a", &layout, &meta).contains("maxmemory 1"));
    }
}
