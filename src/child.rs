//! Supervision of children.

use super::error::{Error, Result};
use super::sys;

/// Makes the calling process adopt the orphans among its descendants (prctl(2)
/// `PR_SET_CHILD_SUBREAPER`), which makes [`Kill::children`](super::Kill::children) exact.
///
/// It is process-wide and lasts until the process ends: whoever calls it has to reap the orphans as
/// well (`waitpid(-1)`), or they stay zombies. Children do not inherit it.
///
/// # Errors
/// `Io`: the kernel refused, which it does for no process since Linux 3.4.
pub fn adopt_orphans() -> Result<()> {
    sys::set_child_subreaper().map_err(|e| Error::io("adopt orphans", e))
}
