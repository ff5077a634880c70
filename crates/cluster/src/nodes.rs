//! What jobs ask the block servers directly: sizes, removal on one server, how they are.

use crate::error::ClusterError;
use ringfs_base::{BlockId, VolumeName};
use ringfs_link::{Cmd, LinkError, Pool, Reply, Timeouts};
use ringfs_store::Node;

/// A block server with connections of its own.
#[derive(Clone, Debug)]
pub(crate) struct NodeLink {
    pub(crate) node: Node,
    pub(crate) pool: Pool,
    prefix: String,
}

/// Blocks in one pipeline.
pub(crate) const NODE_BATCH_MAX: usize = 256;

impl NodeLink {
    pub(crate) fn new(node: &Node, volume: &VolumeName, timeouts: Timeouts) -> NodeLink {
        NodeLink {
            node: node.clone(),
            pool: Pool::new(node.endpoint.clone(), timeouts),
            // As `ringfs-store` names them.
            prefix: format!("rfb:{volume}:"),
        }
    }

    fn key(&self, block: BlockId) -> String {
        format!("{}{block}", self.prefix)
    }

    /// Stored bytes of each block, 0 for those that are gone.
    pub(crate) fn sizes(&self, blocks: &[BlockId]) -> Result<Vec<u64>, ClusterError> {
        self.numbers("STRLEN", blocks)
    }

    /// Removes the blocks from this server only; how many were there.
    pub(crate) fn remove(&self, blocks: &[BlockId]) -> Result<u64, ClusterError> {
        Ok(self.numbers("UNLINK", blocks)?.iter().sum())
    }

    fn numbers(&self, cmd: &'static str, blocks: &[BlockId]) -> Result<Vec<u64>, ClusterError> {
        let mut out = Vec::with_capacity(blocks.len());
        for part in blocks.chunks(NODE_BATCH_MAX) {
            let cmds: Vec<Cmd<'_>> =
                part.iter().map(|block| Cmd::new(cmd).arg(self.key(*block))).collect();
            let replies = self.pipeline(&cmds).map_err(|e| self.failed(&e))?;
            for reply in replies {
                out.push(reply.and_then(Reply::into_int).map_err(|e| self.failed(&e))? as u64);
            }
        }
        Ok(out)
    }

    /// Both commands may be repeated: once more on a fresh connection, in case an idle one was cut.
    fn pipeline(&self, cmds: &[Cmd<'_>]) -> Result<Vec<Result<Reply, LinkError>>, LinkError> {
        let attempt = || self.pool.get().and_then(|mut conn| conn.pipeline(cmds));
        attempt().or_else(|e| if e.retryable() { attempt() } else { Err(e) })
    }

    pub(crate) fn failed(&self, cause: &LinkError) -> ClusterError {
        ClusterError::Node { node: self.node.name.to_string(), cause: cause.to_string() }
    }
}
