//! Adopting orphans beside `std` and tokio.
//!
//! When a process ends, its children become orphans, and init adopts them. From then on nothing
//! shows that they descend from the caller.
//! [`child::adopt_orphans`](super::super::child::adopt_orphans) makes the caller a *child
//! subreaper* (prctl(2) `PR_SET_CHILD_SUBREAPER`, Linux 3.4): orphans among its descendants become
//! its own children. Then "I have no living child" proves "I have no living descendant", and
//! [`Kill::children`](super::super::Kill::children) is exact, also against daemons.
//!
//! Call it before the first child is started. An orphan that init has adopted does not come back.
//!
//! # What it costs
//!
//! - It holds for the whole process. A library should leave it to the program.
//! - Adopted orphans that end stay zombies until the caller waits for them or ends itself. A zombie
//!   costs a pid and a small entry of the kernel, no more. A program that is short-lived, or kills
//!   few trees, can leave them.
//! - Orphans of a process in a container of its own go to the init of that container. Then the
//!   coverage is `BestEffort`.
//!
//! # Never wait for "any child"
//!
//! `waitpid(-1)` takes the status of whichever child ends, also of a child that
//! `std::process::Child` or tokio waits for. `Child::wait` then fails with `ECHILD`, and the true
//! status is lost. `std` and tokio themselves wait only for their own children, by pid. So do the
//! same: wait for each orphan by its pid. An orphan is a zombie whose parent is the caller, and
//! which the program did not start:
//!
//! ```no_run
//! use nix::sys::wait::{WaitPidFlag, waitpid};
//! use nix::unistd::Pid;
//!
//! /// `own`: every child that this program has started and not yet waited for.
//! fn reap_orphans(own: &[u32]) -> Result<(), Box<dyn std::error::Error>> {
//!     let me = std::process::id();
//!     let orphans = process_kill::processes_where(|p| {
//!         p.parent() == me && p.state() == 'Z' && !own.contains(&p.pid())
//!     })?;
//!     for orphan in orphans {
//!         // WNOHANG: a dead leader whose threads run on is not reaped yet.
//!         waitpid(Pid::from_raw(orphan.pid().try_into()?), Some(WaitPidFlag::WNOHANG))?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! `own` must be complete. Hold one lock while a child is started and listed, and while this runs.
//! Take a child off the list after its status was read. A `std::sync::Mutex` does in async code too,
//! because nothing is awaited under it: starting a child is a plain call, and this is work for
//! `spawn_blocking`.
//! A library that starts processes of its own in another thread breaks it: its child may be a
//! zombie for a moment, and be taken for an orphan. In such a program leave the zombies alone, or
//! let a small process of its own be the subreaper.
