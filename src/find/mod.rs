//! Which processes: by pattern, by descent, by what they are. Each way to ask has a file. Nothing
//! here sends a signal.

mod candidate;
pub(crate) mod descent;
pub(crate) mod directory;
mod directory_names;
pub(crate) mod listeners;
mod members;
pub(crate) mod pattern;
mod pattern_bounds;

pub use candidate::{Candidate, pids_with_env, processes_where};
pub use descent::{descendant_pids, descendants};
pub use directory::{pids_in_directory, pids_with_cwd_under};
pub use listeners::pids_listening_on;
pub use members::{pids_in_group, pids_in_session};
pub use pattern::pids_matching;
