//! What becomes of your processes when you are killed.
//!
//! A program that gets SIGKILL, runs out of memory or aborts runs no destructor. `Managed` and
//! `Registry` do nothing then, and tokio's `kill_on_drop` does nothing. The children live on,
//! adopted by init. They keep their files and ports, and the next run of the program starts beside
//! them. That run must find them. There are four ways. They can be combined: first the file, then
//! the variable, because that one also kills parents through which
//! [`Kill::trees`](super::super::Kill::trees) finds their children.
//!
//! | way | finds | misses |
//! |---|---|---|
//! | a file of identities, [`Kill::trees`](super::super::Kill::trees) | what was written down, with its tree | what was started and not yet written down; orphans of a process that is gone |
//! | a variable in the environment, [`pids_with_env`](super::super::pids_with_env) | all descendants, daemons too | programs that clear their environment or write over it; other users' processes |
//! | a cgroup, [`Kill::cgroup`](super::super::Kill::cgroup) | all of them | nothing, but it needs a writable cgroup file system |
//! | a pipe that the child reads | children that end when they read end-of-file | all others |
//!
//! **Write identities, not pids.** After a crash a pid can be a stranger's; see
//! [`identity`](super::identity). Let the child wait until its whole line is in the file, and exit if it
//! reads end-of-file instead: `sh -c 'read -r go || exit; exec agent'`. Even a single `write_all` can be
//! cut short, by SIGKILL or a power failure. So skip a last line that has no newline when you read the
//! file: its child has not begun. The README and [`Kill::trees`](super::super::Kill::trees) have
//! examples.
//!
//! **Let only one life run.** Two of them would end each other's children. Hold a lock on a file as long
//! as the program runs ([`File::try_lock`](std::fs::File::try_lock) since Rust 1.89, flock(2)).
//!
//! **Mark the environment.** Every descendant inherits it:
//!
//! ```no_run
//! use process_kill::Kill;
//! use std::process::Command;
//!
//! // At the start of each life: what an earlier one has left.
//! Kill::graceful().all_where(|p| p.has_env("AGENT_POOL", "pool-7"))?;
//!
//! let child = Command::new("agent").env("AGENT_POOL", "pool-7").spawn()?;
//! # drop(child);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Choose a value that no other program uses. The caller and its ancestors are spared, also if they
//! have the variable.
//!
//! **Put them in a cgroup.** No process leaves it by forking or by setsid(2). The program that
//! kills must be outside of it. In a systemd unit this is done already: when the main process dies,
//! systemd ends what is left in the unit's cgroup, unless `KillMode=` says otherwise.
//!
//! **Give the child a pipe.** Only the parent holds the writing end. When the parent dies, by
//! whatever cause, the child reads end-of-file and can end itself.
//!
//! # Why not `PR_SET_PDEATHSIG`
//!
//! prctl(2) `PR_SET_PDEATHSIG` promises that a process gets a signal when its parent dies. It has
//! three traps:
//!
//! - "Parent" means the *thread* that started the process. A pool ends idle threads: a child that
//!   was started by `spawn_blocking` gets the signal when that thread has been idle for ten
//!   seconds, although the program lives.
//! - It is not inherited. Grandchildren live on.
//! - The parent can die before the child has made the call. The child must then compare getppid(2)
//!   with the pid that it expects.
