//! The members of a group or session, by one look at every process.

use super::super::error::Result;
use super::super::proc::{self, Proc, Stat};
use super::super::process::pid_of;

/// The members of a process group, ascending, also zombies.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// use std::os::unix::process::CommandExt;
///
/// let mut job = std::process::Command::new("sleep").arg("60").process_group(0).spawn()?;
/// assert_eq!(process_kill::pids_in_group(job.id())?, [job.id()]);
/// # process_kill::kill_process_group(job.id())?;
/// # job.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_in_group(pgid: u32) -> Result<Vec<u32>> {
    let pgid = pid_of(pgid)?.get();
    pids_by_stat(|stat| stat.group == pgid)
}

/// The members of a session, ascending, also zombies.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// use process_kill::child::{CommandExt, Group};
///
/// let job = std::process::Command::new("sleep").arg("60").spawn_managed(Group::NewSession)?;
/// assert_eq!(process_kill::pids_in_session(job.id())?, [job.id()]);
/// # Ok::<(), process_kill::Error>(())
/// ```
pub fn pids_in_session(sid: u32) -> Result<Vec<u32>> {
    let sid = pid_of(sid)?.get();
    pids_by_stat(|stat| stat.session == sid)
}

fn pids_by_stat(keep: impl Fn(&Stat<'_>) -> bool) -> Result<Vec<u32>> {
    let proc = Proc::open()?;
    let mut buf = Vec::new();
    let mut found = Vec::new();
    for pid in proc::visible(&proc)? {
        if proc::readable(pid, proc.process(pid).stat(&mut buf))?.is_some_and(|stat| keep(&stat)) {
            found.push(pid.get());
        }
    }
    Ok(found)
}
