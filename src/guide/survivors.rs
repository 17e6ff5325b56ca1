//! What survives SIGKILL, and what to do about it.
//!
//! No program can catch SIGKILL. But a process dies only when the kernel lets it run to its end. If
//! the kernel holds it in a system call, the signal waits. Nothing is lost: the process dies as
//! soon as the kernel lets it go. A second SIGKILL changes nothing.
//!
//! | [`Reason`](super::super::Reason) | what holds it | what helps |
//! |---|---|---|
//! | `Uninterruptible` | a disk or network file system that does not answer, or a frozen cgroup (version 1) | repair the file system or force its unmount; thaw the cgroup |
//! | `Traced` | a debugger, while the process exits | end the debugger; the reason has its pid |
//! | `StillExiting` | its memory is given back, up to 0.1 s for each GiB; or it is the init of a container | wait longer ([`Kill::verify_within`](super::super::Kill::verify_within)) |
//! | `StillRunning` | it has not come to act on the signal, as on an overloaded machine | wait longer |
//! | `NotPermitted` | it belongs to another user | the rights of that user, or `CAP_KILL` |
//! | `Unverifiable` | the kernel did not tell whether it is gone | read the docs of the call for its limits |
//! | `InvalidPid`, `Init`, `Caller`, `Ancestor`, `Thread`, `KernelThread` | nothing was sent, on purpose | do not name it |
//!
//! A process that is stopped, or that a debugger merely watches, dies at once. So does one in a
//! frozen cgroup of version 2.
//!
//! # What to do about an error
//!
//! | [`ErrorKind`](super::super::ErrorKind) | what happened | what to do |
//! |---|---|---|
//! | `Survivors` | not all are gone | see the reason of each survivor |
//! | `Unproven` | all that were found are gone, and one may be left | a search or a cgroup: call again; a tree: see below |
//! | `TooMany` | nothing was sent | show the list, and ask |
//! | `Refused`, `Pattern` | nothing was sent | mend the call; another attempt cannot help |
//! | `Proc` | /proc cannot be used | mount that of this PID namespace |
//! | `Io` | a system call failed | look at `source()`: a path that does not exist, missing rights, or too few descriptors, which may pass |
//! | `Task` | a panic on tokio's pool | a bug; give up |
//!
//! After `Unproven` of a tree do not kill the tree again: its root is gone, so that call finds nothing
//! and is `Ok`. [`Error::left_alone`](super::super::Error::left_alone) names the orphans that were seen.
//! If you know that they are yours, end them by their identities. If the tree had a group of its own,
//! [`Kill::jobs`](super::super::Kill::jobs) ends what is left in it, and a variable in the environment
//! finds them too ([`crashes`](super::crashes)). This is still no proof that there were no others:
//!
//! ```no_run
//! use process_kill::{Kill, ProcessId, Survivor};
//!
//! # fn kill(agent: u32) -> process_kill::Result<()> {
//! if let Err(error) = Kill::graceful().tree(agent) {
//!     // On this machine nothing else starts processes in the agent's group.
//!     let orphans: Vec<ProcessId> = error.left_alone().iter().filter_map(Survivor::id).collect();
//!     Kill::now().trees(&orphans)?;
//!     return Err(error); // survivors, or orphans that were not seen, may be left
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A caller without a processor
//!
//! A tree that forks without pause takes the processors from the thread that stops it. If that thread has
//! none for most of the time, the text of the error says how long it waited, and the call may return after
//! its deadline. Kill such a program from a thread with a higher priority (setpriority(2), which needs
//! `CAP_SYS_NICE`), or start it in a cgroup ([`Kill::cgroup`](super::super::Kill::cgroup)), where it can be
//! killed without being stopped. On Linux 5.10 with two slow processors, 200 processes that forked
//! without pause were killed in 1 s at nice -20, and were not in 100 s at nice 0. Against the limit of a
//! cgroup (`cpu.max`) no priority helps.
//!
//! # Waiting for a survivor
//!
//! An error of the kind `Survivors` names each of them, and its report says what did end. Do not
//! report "stopped" then: a survivor still has its files and ports. Keep its identity, and wait for
//! it or try again later:
//!
//! ```no_run
//! use process_kill::{Kill, ProcessId, Reason, Survivor};
//! use std::time::Duration;
//!
//! fn stop(ids: &[ProcessId]) -> process_kill::Result<()> {
//!     let Err(error) = Kill::graceful().trees(ids) else {
//!         return Ok(());
//!     };
//!     for survivor in error.survivors() {
//!         match survivor.reason() {
//!             Reason::Traced { by } => eprintln!("{survivor}: end debugger {by}"),
//!             Reason::Uninterruptible => eprintln!("{survivor}: is a file system hung?"),
//!             _ => eprintln!("{survivor}"),
//!         }
//!     }
//!     let left: Vec<ProcessId> = error.survivors().iter().filter_map(Survivor::id).collect();
//!     if left.is_empty() {
//!         return Err(error); // another kind of error, or a survivor that nothing identifies
//!     }
//!     Kill::now().verify_within(Duration::from_secs(60)).processes(&left)?;
//!     Ok(())
//! }
//! ```
