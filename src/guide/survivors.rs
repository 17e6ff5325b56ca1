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
