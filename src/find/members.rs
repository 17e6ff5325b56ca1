//! The members of a group or session, by one look at every process.

use super::super::error::Result;
use super::super::proc::{self, Proc};
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
    pids_in(|group, _| group == pgid)
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
    pids_in(|_, session| session == sid)
}

/// `is_meant` gets the group and the session of a process.
fn pids_in(is_meant: impl Fn(u32, u32) -> bool) -> Result<Vec<u32>> {
    let proc = Proc::open()?;
    let mut buf = Vec::new();
    let mut found = Vec::new();
    for pid in proc::visible_in(&proc, &is_meant)? {
        let stat = proc::readable(pid, proc.process(pid).stat(&mut buf))?;
        if stat.is_some_and(|stat| is_meant(stat.group, stat.session)) {
            found.push(pid.get());
        }
    }
    Ok(found)
}
