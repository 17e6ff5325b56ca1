//! The same functions for async code. Each runs the plain one on tokio's blocking pool, and does
//! nothing more.
//!
//! The work begins when the function is called, not when its future is first polled. Dropping the
//! future does not stop it: a kill that was asked for is done.
//!
//! Three cases keep the work off the pool: there is no runtime, the runtime shuts down before the
//! pool has run the work, or the pool cannot start a thread. Then the work runs, and blocks, in the
//! thread that polls the future, or in the thread that drops it unpolled.
//!
//! The errors are those of the plain functions, and `Task`: the work panicked.
//!
//! Each function has the name of the plain one and takes what that takes, but owned: `Vec<u32>`,
//! `String`, `PathBuf`. The methods of [`Kill`] are functions here that take the `Kill` first.
//!
//! This module has the name of the runtime. Import the functions, or import the module under
//! another name. `use process_kill::tokio` would hide the runtime from `#[tokio::main]`:
//!
//! ```
//! use process_kill::tokio as kill;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> process_kill::Result<()> {
//!     let found = kill::descendant_pids(std::process::id()).await?;
//!     kill::sigkill_pids_and_verify(found).await?;
//!     Ok(())
//! }
//! ```
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let mut sleep = tokio::process::Command::new("sleep").arg("60").process_group(0).spawn()?;
//! if tokio::time::timeout(Duration::from_millis(50), sleep.wait()).await.is_err() {
//!     let root = sleep.id().expect("it was not waited for");
//!     process_kill::tokio::tree(process_kill::Kill::graceful(), root).await?;
//! }
//! assert!(!sleep.wait().await?.success());
//! # Ok(())
//! # }
//! ```
//!
//! A child that exits by itself is reaped by tokio at once, and what it has started lives on. To end
//! that too, list its group with [`Registry::add_group`](super::child::Registry::add_group) right
//! after the spawn, or mark its environment; see [`guide::crashes`](super::guide::crashes).
//!
//! # Children with limits, in async code
//!
//! The methods of [`Managed`](super::child::Managed) block. Run them by `spawn_blocking`, and send the
//! output through a channel. The channel must not make the reader wait, or the time limits are not
//! kept: take an unbounded one, or `try_send`.
//!
//! ```
//! use process_kill::child::{CommandExt, Group, Limits};
//! use process_kill::{Kill, tokio as kill};
//! use std::process::{Command, Stdio};
//! use tokio::{sync::mpsc, task::spawn_blocking};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut command = Command::new("sh");
//! command.args(["-c", "echo ready; sleep 60"]).stdout(Stdio::piped());
//! let child = command.spawn_managed(Group::New)?;
//! let id = child.process_id();
//! let (send, mut log) = mpsc::unbounded_channel();
//! let job = spawn_blocking(move || {
//!     // The receiver may be gone. That is no reason to stop the job.
//!     child.output_with(&Limits::new(), |_, bytes| drop(send.send(bytes.to_vec())))
//! });
//! assert_eq!(log.recv().await.as_deref(), Some(&b"ready\n"[..]));
//!
//! // To cancel: end the child. Then the job ends what is left, and returns what it has read.
//! kill::trees(Kill::graceful(), vec![id]).await?;
//! let output = job.await??;
//! assert_eq!(output.stdout, b"ready\n");
//! # Ok(())
//! # }
//! ```
//!
//! Dropping `job` does not cancel it: the thread goes on until the child has ended, and the runtime
//! waits for that thread when it shuts down. So end the child, as above, or set
//! [`Limits::overall`](super::child::Limits::overall). To end all children at the shutdown, list them
//! in a [`Registry`](super::child::Registry); [`guide::groups`](super::guide::groups) shows how.
//!
//! A `Managed` that is dropped in async code blocks its thread for up to 2 s. Move it into
//! `spawn_blocking` before the next `.await`.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::tokio::runtime::Handle;

use super::error::{Error, Result};
use super::find::Candidate;
use super::kill::Kill;
use super::process::ProcessId;
use super::report::Report;

/// Work that runs once: in the pool, in the future or, if neither has run it, when the last of the
/// two is dropped.
struct Work<T, F: FnOnce() -> Result<T>> {
    work: Mutex<Option<F>>,
    of: PhantomData<fn() -> T>,
}

impl<T, F: FnOnce() -> Result<T>> Work<T, F> {
    /// Runs the work. `None`: it was taken before.
    fn run(&self) -> Option<Result<T>> {
        let work = self.work.lock();
        let work = work.unwrap_or_else(PoisonError::into_inner).take()?;
        let result = catch_unwind(AssertUnwindSafe(work));
        Some(result.unwrap_or_else(|panic| {
            let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                (Some(message), _) => (*message).to_owned(),
                (_, Some(message)) => message.clone(),
                _ => "a value that is no text".to_owned(),
            };
            Err(Error::task(format!("it panicked: {message}")))
        }))
    }
}

impl<T, F: FnOnce() -> Result<T>> Drop for Work<T, F> {
    fn drop(&mut self) {
        // Nothing is left that could take the result.
        drop(self.run());
    }
}

/// Starts the work on the blocking pool. The future is ready when the work is done.
fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send {
    let work = Arc::new(Work {
        work: Mutex::new(Some(work)),
        of: PhantomData,
    });
    let task = Handle::try_current().ok().and_then(|runtime| {
        let work = Arc::clone(&work);
        let spawn = move || runtime.spawn_blocking(move || work.run());
        // tokio panics if its pool has no thread and cannot start one.
        catch_unwind(AssertUnwindSafe(spawn)).ok()
    });
    async move {
        let ran = match task {
            Some(task) => task.await.ok().flatten(),
            None => None,
        };
        match ran.or_else(|| work.run()) {
            Some(result) => result,
            None => Err(Error::task("it was taken up and not finished".into())),
        }
    }
}

macro_rules! wrappers {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $of:ty = $call:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Those of the plain function. `Task`: it panicked.
        pub fn $name($($arg: $type),*) -> impl Future<Output = Result<$of>> + Send + 'static {
            spawn(move || $call)
        }
    )*};
}

wrappers! {
    /// [`sigkill_pids_and_verify`](super::sigkill_pids_and_verify). Not graceful.
    sigkill_pids_and_verify(pids: Vec<u32>) -> Report = super::sigkill_pids_and_verify(&pids);
    /// [`pids_matching`](super::pids_matching).
    pids_matching(pattern: String) -> Vec<u32> = super::pids_matching(&pattern);
    /// [`descendant_pids`](super::descendant_pids).
    descendant_pids(root: u32) -> Vec<u32> = super::descendant_pids(root);
    /// [`descendants`](super::descendants).
    descendants(root: u32) -> Vec<ProcessId> = super::descendants(root);
    /// [`wait_until_gone`](super::wait_until_gone).
    wait_until_gone(pids: Vec<u32>, within: Duration) -> Report =
        super::wait_until_gone(&pids, within);
    /// [`is_gone`](super::is_gone).
    is_gone(pid: u32) -> bool = super::is_gone(pid);
    /// [`kill_tree_and_verify`](super::kill_tree_and_verify). Not graceful.
    kill_tree_and_verify(root: u32) -> Report = super::kill_tree_and_verify(root);
    /// [`kill_process_group`](super::kill_process_group). Graceful.
    kill_process_group(pgid: u32) -> Report = super::kill_process_group(pgid);
    /// [`kill_all_children`](super::kill_all_children). Graceful.
    kill_all_children() -> Report = super::kill_all_children();
    /// [`pids_in_group`](super::pids_in_group).
    pids_in_group(pgid: u32) -> Vec<u32> = super::pids_in_group(pgid);
    /// [`pids_in_session`](super::pids_in_session).
    pids_in_session(sid: u32) -> Vec<u32> = super::pids_in_session(sid);
    /// [`pids_in_directory`](super::pids_in_directory).
    pids_in_directory(dir: PathBuf) -> Vec<u32> = super::pids_in_directory(&dir);
    /// [`pids_with_cwd_under`](super::pids_with_cwd_under).
    pids_with_cwd_under(dir: PathBuf) -> Vec<u32> = super::pids_with_cwd_under(&dir);
    /// [`pids_with_env`](super::pids_with_env).
    pids_with_env(key: String, value: String) -> Vec<u32> = super::pids_with_env(&key, &value);
    /// [`pids_listening_on`](super::pids_listening_on).
    pids_listening_on(port: u16) -> Vec<u32> = super::pids_listening_on(port);
    /// [`Kill::pids`].
    pids(kill: Kill, pids: Vec<u32>) -> Report = kill.pids(&pids);
    /// [`Kill::processes`].
    processes(kill: Kill, ids: Vec<ProcessId>) -> Report = kill.processes(&ids);
    /// [`Kill::tree`].
    ///
    /// ```
    /// use process_kill::{Kill, tokio as kill};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut sleep = tokio::process::Command::new("sleep").arg("60").spawn()?;
    /// kill::tree(Kill::graceful(), sleep.id().expect("it was not waited for")).await?;
    /// sleep.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    tree(kill: Kill, root: u32) -> Report = kill.tree(root);
    /// [`Kill::trees`].
    trees(kill: Kill, roots: Vec<ProcessId>) -> Report = kill.trees(&roots);
    /// [`Kill::groups`].
    groups(kill: Kill, pgids: Vec<u32>) -> Report = kill.groups(&pgids);
    /// [`Kill::jobs`].
    jobs(kill: Kill, pgids: Vec<u32>) -> Report = kill.jobs(&pgids);
    /// [`Kill::matching`].
    matching(kill: Kill, pattern: String) -> Report = kill.matching(&pattern);
    /// [`Kill::directory`].
    ///
    /// ```no_run
    /// # async fn remove() -> Result<(), Box<dyn std::error::Error>> {
    /// use process_kill::{Kill, tokio as kill};
    ///
    /// kill::directory(Kill::graceful(), "/srv/worktrees/7".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    directory(kill: Kill, dir: PathBuf) -> Report = kill.directory(&dir);
    /// [`Kill::port`].
    port(kill: Kill, port: u16) -> Report = kill.port(port);
    /// [`Kill::children`].
    children(kill: Kill) -> Report = kill.children();
    /// [`Kill::cgroup`].
    cgroup(kill: Kill, dir: PathBuf) -> Report = kill.cgroup(&dir);
}

/// [`processes_where`](super::processes_where).
///
/// # Errors
/// Those of the plain function. `Task`: it or `keep` panicked.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> process_kill::Result<()> {
/// let me = std::process::id(); // `keep` owns what it uses
/// let children = process_kill::tokio::processes_where(move |p| p.parent() == me).await?;
/// # drop(children);
/// # Ok(())
/// # }
/// ```
pub fn processes_where<F>(keep: F) -> impl Future<Output = Result<Vec<ProcessId>>> + Send + 'static
where
    F: FnMut(&Candidate<'_>) -> bool + Send + 'static,
{
    spawn(move || super::processes_where(keep))
}

/// [`Kill::all_where`].
///
/// # Errors
/// Those of the plain function. `Task`: it or `keep` panicked.
///
/// ```no_run
/// # async fn end(job: String) -> process_kill::Result<()> {
/// use process_kill::{Kill, tokio as kill};
///
/// kill::all_where(Kill::graceful(), move |p| p.has_env("JOB", &job)).await?;
/// # Ok(())
/// # }
/// ```
pub fn all_where<F>(kill: Kill, keep: F) -> impl Future<Output = Result<Report>> + Send + 'static
where
    F: FnMut(&Candidate<'_>) -> bool + Send + 'static,
{
    spawn(move || kill.all_where(keep))
}
