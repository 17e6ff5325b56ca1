//! What a search can promise, and how it knows.
//!
//! [`Kill::tree`](super::super::Kill::tree) and the searches
//! ([`matching`](super::super::Kill::matching), [`all_where`](super::super::Kill::all_where),
//! [`directory`](super::super::Kill::directory), [`port`](super::super::Kill::port)) read `/proc`
//! process by process. That takes milliseconds, and meanwhile processes are born. One that is born
//! behind the reader is not seen. "I looked, and there was nothing" is therefore no proof. A
//! process that forks and exits without pause can evade any number of looks.
//!
//! Two things make it a proof:
//!
//! 1. **Stop first.** What is found is stopped before it is killed. A stopped process forks no
//!    more. So the targets cannot run away while the search goes on.
//! 2. **The fork counter.** The kernel numbers processes and threads as they are born, and shows
//!    the newest number (`/proc/sys/kernel/ns_last_pid`, or the last field of `/proc/loadavg`). If
//!    the number is the same before and after a search, nothing was born during it, and the search
//!    has seen everything. If it moved by a few, the newcomers are looked at one by one. If there was time
//!    for a lap of all numbers, the forks are counted too.
//!
//! | result | means |
//! |---|---|
//! | `Ok`, [`Coverage::Exact`](super::super::Coverage::Exact) | All were found: nothing was born meanwhile, or only strangers were. |
//! | `Ok`, [`Coverage::BestEffort`](super::super::Coverage::BestEffort) | All that were found are gone. The machine kept forking, as during a build, and several looks in a row found nothing new; or something could not be looked at. |
//! | `Err`, [`ErrorKind::Unproven`](super::super::ErrorKind::Unproven) | All that were found are gone. New ones kept coming until the time was up, or an orphan is left that may be a target's child or a stranger's. |
//!
//! ```
//! use process_kill::{Coverage, Kill};
//!
//! let mut sh = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).spawn()?;
//! let report = Kill::now().tree(sh.id())?;
//! if report.coverage() != Coverage::Exact {
//!     eprintln!("{} gone, but the machine was too busy to be certain of all", report.len());
//! }
//! sh.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # If `BestEffort` is not enough
//!
//! Call a search again. What is gone is found no more, so the second call finds nothing, and its
//! coverage is `Exact` unless the machine still forks. Two causes stay: a machine that forks all the
//! time, and processes that the caller may not read. The second is so for most users but root, and then
//! other users' processes could not be killed either. A second call for a tree tells nothing: its root
//! is gone, and the children of what is gone are found no more.
//!
//! `Ok` with `BestEffort` is enough for most programs: everything that several looks in a row found
//! is gone. If a single missed process would do harm, use one of these instead. They hold their
//! members, and need no search:
//! - A cgroup ([`Kill::cgroup`](super::super::Kill::cgroup), with an example). No process leaves it
//!   by forking.
//! - A process group ([`Kill::groups`](super::super::Kill::groups)). No member escapes the signal
//!   by forking, but a process can leave the group.
//! - The caller's own descendants, once it adopts orphans: see [`orphans`](super::orphans).
//!
//! # What `Exact` leaves out
//!
//! Three kinds of births leave no trace that could be looked at:
//!
//! - The kernel takes the number of a process before the process can be seen. A process that is no target,
//!   such as an ancestor of the caller, can be in the middle of a fork while a search ends. The child then
//!   matches after the search. The members of a tree are stopped first, so this is true of searches alone.
//! - A child of the caller can make its own child one of the caller (clone(2) `CLONE_PARENT`). If that one
//!   leaves session and group, it looks like a child that another thread of the caller has started.
//! - Root can choose the number of a process (clone3(2) `set_tid`), or of the next one
//!   (`/proc/sys/kernel/ns_last_pid`).
//!
//! # What descent cannot show
//!
//! A daemon that left its tree and its session before the call is no descendant any more. No look
//! at the tree finds it, and the coverage may still be `Exact`, because it is no member. Search for
//! it by something that it kept: its environment, its directory, its port. See
//! [`crashes`](super::crashes). All ways together:
//!
//! ```no_run
//! use process_kill::Kill;
//! use process_kill::child::Managed;
//! use std::path::Path;
//!
//! /// The agent was started in the worktree, with `.env("AGENT", name)`.
//! fn stop(agent: &mut Managed, worktree: &Path, name: &str) -> Result<(), Box<dyn std::error::Error>> {
//!     let how = Kill::graceful();
//!     agent.stop(&how)?;
//!     for _ in 0..10 {
//!         let there = how.directory(worktree)?;
//!         let marked = how.all_where(|p| p.has_env("AGENT", name))?;
//!         // A marked process elsewhere can start another in the worktree after that was searched.
//!         if there.is_empty() && marked.is_empty() {
//!             return Ok(());
//!         }
//!     }
//!     Err("new ones keep coming".into())
//! }
//! ```
