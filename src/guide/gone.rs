//! Why `kill(pid, 0)` lies, and what *gone* means.
//!
//! `kill(pid, 0)`, `kill -0` and the existence of `/proc/PID` answer one question: does anything
//! have this number? A program that stops processes asks something else: will this process ever run
//! again, and has it let go of its files, locks and ports?
//!
//! # A zombie has a number and nothing else
//!
//! A process that has ended stays a zombie until its parent waits for it. A zombie has no memory,
//! no descriptors, no locks and no ports. It has its number and its exit status. `kill(pid, 0)`
//! succeeds, so a loop that waits for `kill(pid, 0)` to fail never ends for a child of one's own:
//! the caller is the parent that must wait.
//!
//! ```
//! use nix::{sys::signal::kill, unistd::Pid};
//! use process_kill::{is_gone, wait_until_gone};
//! use std::{process::Command, time::Duration};
//!
//! let mut child = Command::new("true").spawn()?;
//! wait_until_gone(&[child.id()], Duration::from_secs(10))?;
//! assert!(kill(Pid::from_raw(child.id().try_into()?), None).is_ok()); // "it lives"
//! assert!(is_gone(child.id())?);
//! child.wait()?; // the status is still there
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `killpg(pgid, 0)` lies in the same way: a group of zombies exists.
//!
//! # A dead leader can have live threads
//!
//! The first thread of a process is its leader. It can end (pthread_exit(3)) while the other
//! threads run on. Then `/proc/PID/stat` shows the state `Z` and the command line is empty, as for
//! a zombie. But the process runs, and holds all of its files and ports. So the state `Z` alone
//! proves nothing. [`Candidate::threads`](super::super::Candidate::threads) tells the two apart.
//!
//! # An empty command line comes too early
//!
//! A process that dies gives back its memory first. From then on its command line is empty, and no
//! pattern matches it. It closes its files and ports later, sometimes tens of milliseconds later.
//! So "`pgrep` finds nothing" does not mean that the port is free.
//!
//! # What counts here
//!
//! A process is gone when its last thread has ended. A pidfd becomes readable at that moment
//! (pidfd_open(2), Linux 5.3), for every process, a child of the caller or not. Memory,
//! descriptors, locks and ports are free by then. The crate waits for that, and never reaps:
//! `Child::wait` still returns the true status.
