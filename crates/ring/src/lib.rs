//! A hash ring: which servers hold a key, and what moves when servers come and go.
//!
//! # The idea
//!
//! The textbook places a key on server `(x mod N) mod M`, `x` being the key's hash, `N` the
//! size of the hash space and `M` the number of servers. It balances well and is one division,
//! but `M` sits inside the formula: when one of 100 servers leaves, 99% of all keys move.
//!
//! The repair is to stop at the first `mod` and replace the second by a table:
//!
//! ```text
//!     owners(x) = T_epoch[ hi64(SHA-1(x)) mod P ]
//! ```
//!
//! `P` is a power of two that never depends on the membership (4,096 to start with). The hash
//! space is a virtual ring of `P` equal arcs, and each arc has a row that names the servers of
//! its R copies. A change of membership edits rows; the arithmetic stays.
//!
//! Because the table is computed once per change and only looked up afterwards, it can be
//! *optimal* instead of *random*: [`plan`] gives every server its exact share of the rows
//! (weights, capped where distinctness forces it), never puts two copies on one server, nor in
//! one zone where that is feasible, balances who comes first, and then moves as few copies as a
//! minimum-cost flow would. A virtual-node ring with 100 points a server loads one of 100
//! servers with 14% more than the mean (with 27% more first copies); this is exact to one row.
//! Doubling `P` ([`Table::split`]) moves nothing, because the arcs `a` and `a + P` of the new
//! table inherit row `a` of the old.
//!
//! # The pieces, from below
//!
//! | module | idea |
//! | --- | --- |
//! | `hash` | SHA-1 to a point; the scores that order servers for an arc |
//! | `member` | a server as the ring sees it: name, weight, zone. Never an address |
//! | `table` | rows, lookup, stand-ins, doubling |
//! | `encoding` | the bytes in which a table is stored, decoded totally |
//! | `overlay` | servers that are down: skipped, stood in for, nothing moves |
//! | `quota` | how many rows each server is due |
//! | `assignment` | rows under construction, and the legal single replacements |
//! | `chains` | cheapest chains of replacements: shortest paths of the flow |
//! | `optimiser` | [`plan`]: quotas, then the fewest replacements that meet them |
//! | `primaries` | who comes first in each row; costs no data movement |
//! | `move_plan` | what is copied where between two tables |
//! | [`alternates`] | the placements one could have had instead |
//! | [`simulate`] | all of them side by side, in numbers; [`svg`] draws one |
//!
//! Everything is pure, synchronous and deterministic: the same members and the same table
//! before give the same table on every machine, whatever the order they were listed in.

pub mod alternates;
mod assignment;
mod chains;
mod encoding;
mod hash;
mod member;
mod move_plan;
mod optimiser;
mod overlay;
mod primaries;
mod quota;
mod shares;
pub mod simulate;
pub mod svg;
mod table;

pub use encoding::{DecodeError, TABLE_VERSION};
pub use hash::point_of;
pub use member::{MEMBERS_MAX, Member};
pub use move_plan::{ArcMove, MovePlan, NodeMoves};
pub use optimiser::{PlanError, plan};
pub use overlay::{DownSet, EffectiveOwner, EffectiveOwners, StatusOverlay};
pub use ringfs_base::{Epoch, NodeName, ZoneName};
pub use shares::{NodeShare, Shares};
pub use table::{ARCS_DEFAULT, ARCS_MAX, ArcIndex, Table};
