//! Which processes: by pattern, by descent, by what they are. A file for each way to ask.

mod candidate;
mod descent;
mod directory;
mod members;
mod pattern;
mod pattern_bounds;

pub use candidate::{Candidate, pids_with_env, processes_where};
pub(crate) use descent::{ChildLists, NoList, all_children};
pub use descent::{descendant_pids, descendants};
pub use directory::pids_with_cwd_under;
pub use members::{pids_in_group, pids_in_session};
pub use pattern::pids_matching;
pub(crate) use pattern::{Buffers, Match, Pattern};
