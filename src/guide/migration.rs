//! From other ways to kill: before, after, and what changes.
//!
//! In all pairs the call returns when the processes are gone, or with an error that names the
//! survivors. None of them reaps: `Child::wait` still has the true status.
//!
//! # A loop of `kill(pid, 0)`
//!
//! ```text
//! kill(pid, SIGTERM)?;
//! while kill(pid, None).is_ok() { sleep(Duration::from_millis(100)) }
//! ```
//! ```no_run
//! # let pid = 0;
//! process_kill::Kill::graceful().pids(&[pid])?;
//! # Ok::<(), process_kill::Error>(())
//! ```
//! A zombie ends the wait, a process that ignores SIGTERM gets SIGKILL, and a stranger that gets
//! the pid is not waited for. To send nothing, use
//! [`wait_until_gone`](super::super::wait_until_gone).
//!
//! # `killpg` of nix or libc
//!
//! ```no_run
//! # let pgid = nix::unistd::Pid::from_raw(0);
//! nix::sys::signal::killpg(pgid, nix::sys::signal::SIGKILL)?;
//! # Ok::<(), nix::Error>(())
//! ```
//! ```no_run
//! # let pgid = 0;
//! process_kill::Kill::now().groups(&[pgid])?;
//! # Ok::<(), process_kill::Error>(())
//! ```
//! The group is verified empty, and zombies do not count. An empty group is `Ok`, not `ESRCH`. The
//! caller's own group is refused, which `killpg` of 0 would kill.
//! [`Kill::jobs`](super::super::Kill::jobs) also takes descendants that left the group.
//!
//! # `pgrep`, `pkill`, `lsof -ti` and `fuser -k`
//!
//! ```text
//! Command::new("pkill").args(["-9", "-f", &pattern]).status()?;
//! Command::new("sh").args(["-c", "kill $(lsof -ti tcp:8080)"]).status()?;
//! Command::new("fuser").args(["-k", "8080/tcp"]).status()?;
//! Command::new("fuser").args(["-k", "/srv/worktrees/7"]).status()?;
//! ```
//! ```no_run
//! # use process_kill::Kill;
//! # use std::path::Path;
//! # let pattern = String::new();
//! Kill::now().matching(&pattern)?;
//! Kill::graceful().port(8080)?;
//! Kill::graceful().directory(Path::new("/srv/worktrees/7"))?;
//! # Ok::<(), process_kill::Error>(())
//! ```
//! Nothing is run. The search is repeated until it is empty, and processes that start each other
//! again lose. The caller and its ancestors are spared: `pkill -f` kills the shell that has the
//! pattern in its command line. `lsof -ti` also names the clients of the port, and `Kill::port`
//! takes only listeners. `fuser -k` of a directory sees what uses the directory itself, and not
//! what is below it. "No process matches" is `Ok`, not exit status 1. To look without killing:
//! [`pids_matching`](super::super::pids_matching),
//! [`pids_listening_on`](super::super::pids_listening_on),
//! [`pids_in_directory`](super::super::pids_in_directory).
//!
//! # `Child::kill`
//!
//! ```no_run
//! # let mut child = std::process::Command::new("make").spawn()?;
//! child.kill()?;
//! child.wait()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//! ```no_run
//! # let mut child = std::process::Command::new("make").spawn()?;
//! process_kill::kill_tree_and_verify(child.id())?;
//! child.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! The grandchildren go too. `Child::wait` can no longer hang on a child that SIGKILL does not end:
//! the error comes first. [`Managed`](super::super::child::Managed) does the same on drop.
//!
//! # `kill_on_drop` and `timeout(child.wait())` of tokio
//!
//! ```no_run
//! # use std::time::Duration;
//! # #[tokio::main] async fn main() -> std::io::Result<()> {
//! let mut child = tokio::process::Command::new("make").kill_on_drop(true).spawn()?;
//! if tokio::time::timeout(Duration::from_secs(60), child.wait()).await.is_err() {
//!     child.kill().await?;
//! }
//! # Ok(()) }
//! ```
//! ```no_run
//! # use std::time::Duration;
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut child = tokio::process::Command::new("make").process_group(0).spawn()?;
//! if tokio::time::timeout(Duration::from_secs(60), child.wait()).await.is_err() {
//!     let root = child.id().expect("it was not waited for");
//!     process_kill::tokio::tree(process_kill::Kill::graceful(), root).await?;
//! }
//! let status = child.wait().await?;
//! # Ok(()) }
//! # #[cfg(not(feature = "tokio"))] fn main() {}
//! ```
//! `kill_on_drop` sends SIGKILL to the child alone and does not wait for its end. Here the child
//! may clean up, its tree goes with it, and a future that is dropped does not call the kill off.
//! Keep `kill_on_drop` for the case that the task is dropped before the timeout.
//!
//! # process-wrap and command-group
//!
//! ```text
//! let mut child = CommandWrap::with_new("make", |_| {}).wrap(ProcessGroup::leader()).spawn()?;
//! let mut child = Command::new("make").group_spawn()?; // command-group
//! child.kill()?;
//! ```
//! ```no_run
//! use process_kill::{Kill, child::{CommandExt, Group}};
//! let mut child = std::process::Command::new("make").spawn_managed(Group::New)?;
//! child.stop(&Kill::graceful())?;
//! # Ok::<(), process_kill::Error>(())
//! ```
//! Those crates signal the group and then wait for children of the caller. A grandchild may still
//! run when they return, and one that left the group is not signalled. `Managed::stop` also takes
//! descendants outside of the group, and waits for all of them. Those crates work on other systems
//! too, this one only on Linux.
//!
//! # sysinfo
//!
//! ```text
//! let system = System::new_all();
//! for process in system.processes_by_exact_name("server".as_ref()) { process.kill(); }
//! ```
//! ```no_run
//! process_kill::Kill::now().all_where(|p| p.name() == "server")?;
//! # Ok::<(), process_kill::Error>(())
//! ```
//! `kill` of sysinfo signals a pid from an older listing, and its `true` says that the signal was
//! sent. Here the process that was looked at is held, killed and verified, and the search is
//! repeated until it is empty. Descendants for which the closure says false are left alone.
