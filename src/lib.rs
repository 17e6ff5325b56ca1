//! Finds processes on Linux, kills them, and proves them gone.
//!
//! `kill` tells you that a signal was sent. It does not tell you whether you found every process,
//! whether they ended, or which ones survived. This crate does, with plain blocking functions. They
//! need no runtime, start no thread, run no program, install no signal handler, and never reap.
//! Only [`child`] runs a program, the command that it is given, and reaps that child.
//!
//! ```no_run
//! # use std::path::Path;
//! use process_kill::Kill;
//!
//! // Every process that works in the directory or names it, with all descendants.
//! let report = Kill::graceful().directory(Path::new("/srv/worktrees/7"))?;
//! println!("{} gone in {:?}", report.len(), report.elapsed());
//! # Ok::<(), process_kill::Error>(())
//! ```
//!
//! # What do you have?
//!
//! | you have | call | good to know |
//! |---|---|---|
//! | a pid | [`sigkill_pids_and_verify`], [`Kill::pids`] | [when it is the wrong one](guide::identity) |
//! | a saved identity | [`Kill::processes`], [`Kill::trees`] | [after a crash](guide::crashes) |
//! | a child or another root | [`Kill::tree`], [`kill_tree_and_verify`] | [what is promised](guide::searches) |
//! | a command with limits | [`child::CommandExt::spawn_managed`], [`child::Managed::output`] | [Ctrl-C](guide::groups) |
//! | a process group | [`Kill::groups`], [`Kill::jobs`], [`kill_process_group`] | [groups](guide::groups) |
//! | a directory | [`Kill::directory`], [`pids_in_directory`] | [what is promised](guide::searches) |
//! | a port | [`Kill::port`], [`pids_listening_on`] | [what is promised](guide::searches) |
//! | a pattern | [`Kill::matching`], [`pids_matching`] | [instead of `pkill`](guide::migration) |
//! | any other question | [`Kill::all_where`], [`processes_where`] | [what is promised](guide::searches) |
//! | a cgroup | [`Kill::cgroup`] | |
//! | only the wish that all my children die | [`Kill::children`], [`kill_all_children`] | [orphans](guide::orphans) |
//! | a process that should be gone | [`is_gone`], [`ProcessId::is_gone`], [`wait_until_gone`] | [what gone means](guide::gone) |
//! | a survivor | [`Error::survivors`], [`Reason`] | [what to do](guide::survivors) |
//! | code that kills in another way | | [what changes](guide::migration) |
//!
//! [`Kill::graceful`] sends SIGTERM first, and so do [`kill_process_group`] and
//! [`kill_all_children`]. [`Kill::now`] sends SIGKILL at once, and so do [`sigkill_pids_and_verify`]
//! and [`kill_tree_and_verify`]. `is_gone`, `wait_until_gone` and all functions that return pids or
//! identities send nothing. The [`guide`] says what all of this stands on.
//!
//! # Which call takes which process
//!
//! ```text
//! caller
//! └─ child ── leads group 10
//!    ├─ grandchild ── in group 10
//!    │  └─ (exited)
//!    │     └─ orphan ── in group 10, adopted by init
//!    └─ server ── leads session 12
//!       └─ (exited)
//!          └─ worker ── in session 12, adopted by init
//! daemon ── session of its own, adopted by init before the call
//!
//!                       child  grandchild  orphan  server  worker  daemon
//! Kill::pids(child)       x
//! Kill::groups(10)        x        x         x
//! Kill::tree(child)       x        x         x(1)    x       x
//! Kill::jobs(10)          x        x         x       x       x
//! Kill::children          x        x         (2)     x       x      (2)
//! Kill::cgroup            x        x         x       x       x       x
//! ```
//!
//! (1) Only if the child is the caller's own, because then the caller made its group. In any other
//! group an orphan may belong to a stranger. (2) Only after [`child::adopt_orphans`].
//!
//! # Cost
//!
//! Times on Linux 6.18 and two cores of a shared machine, among 3000 idle processes. The floor is
//! the same job by bare system calls into one buffer. The last column counts the system calls for
//! each process that is searched, found or killed.
//!
//! | job | floor | this crate | for comparison | calls |
//! |---|---|---|---|---|
//! | [`pids_matching`], a literal | 19.5 ms | 20.5 ms | `pgrep -f`: 122 ms | 3 |
//! | [`pids_matching`], an expression | 21.2 ms | 22.3 ms | `pgrep -f`: 144 ms | 3 |
//! | [`descendant_pids`], 100 | 0.44 ms | 0.61 ms | all of /proc/PID/stat: 25 ms | 6 |
//! | [`sigkill_pids_and_verify`], 1 | 0.05 ms | 0.06 ms | `kill(pid, 0)` each 50 ms: 50 ms | 4 |
//! | [`sigkill_pids_and_verify`], 1000 | 51 ms | 54 ms | | 4 |
//! | [`kill_tree_and_verify`], 100 | 6.3 ms | 9.7 ms | | 18 |
//!
//! Waits are not counted. The floor of `descendant_pids` reads each list of children once, with three
//! calls. That can miss a child. The other three calls prove that none is missed. The floor of the
//! last row kills the same set by pid. A search allocates nothing for each process. `cargo bench`
//! prints the times with their goals, and `cargo test --test counts` the calls.
//!
//! # Copying the source
//!
//! `src/` works as a module of another crate, edition 2021 or 2024:
//!
//! 1. Copy it to `src/process_kill/`, rename `lib.rs` to `mod.rs`, and add `pub mod process_kill;`,
//!    with `pub` in a program too.
//! 2. Add the dependencies of this crate to Cargo.toml: `libc = "0.2.174"` and
//!    `procfs = { version = "0.18", default-features = false }`. For its unit tests, which
//!    `cargo test` builds with yours, add `fastrand = "2"` and `tempfile = "3"` under
//!    `[dev-dependencies]`.
//! 3. Delete the files that you do not need, the `mod` lines that name them, and the `pub use` lines
//!    of their items, also those in `mod.rs`, with their attributes. Put one `#[allow(dead_code)]`
//!    before `pub mod process_kill;`, because much of the rest is unused then. Nothing else needs an
//!    edit, but links in the documentation may lead nowhere.
//! 4. In a library, turn the doc tests off (`doctest = false` under `[lib]`), because the examples
//!    name this crate.
//! 5. To use `tokio.rs`, depend on `tokio` with its feature `rt`, and declare a feature of your own:
//!    `default = ["tokio"]` and `tokio = []` under `[features]`. Without it the module is left out.
//! 6. If your crate has `#![forbid(unsafe_code)]`, write `deny`: one folder makes system calls.
//!
//! | what can go | together with |
//! |---|---|
//! | `guide.rs`, `guide/` | |
//! | `tokio.rs` | |
//! | `child.rs`, `child/` | `tokio.rs` |
//! | `kill/cgroup.rs`, `kill/children.rs` | `tokio.rs` |
//! | `kill/matching.rs`, `kill/matching/` | `tokio.rs` |
//! | `kill/tree.rs`, `kill/freeze.rs`, `kill/freeze/`, `kill/groups.rs` | all of the above |
//! | `find/{candidate,directory,directory_names,listeners,members}.rs`, `proc/net.rs` | all of the above |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![allow(
    unexpected_cfgs,
    reason = "a crate that has copied this source has no feature `tokio`"
)]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("process-kill reads Linux's /proc and pidfds: it works on Linux and Android only");

pub mod child;
mod error;
mod find;
#[cfg(any(doc, doctest))]
pub mod guide;
mod kill;
mod proc;
mod process;
mod report;
#[expect(unsafe_code, reason = "the one folder that makes system calls")]
mod sys;
mod targets;
#[cfg(feature = "tokio")]
pub mod tokio;
mod wait;

pub use error::{Error, ErrorKind, Result};
pub use find::pids_listening_on;
pub use find::pids_matching;
pub use find::{Candidate, pids_with_env, processes_where};
pub use find::{descendant_pids, descendants};
pub use find::{pids_in_directory, pids_with_cwd_under};
pub use find::{pids_in_group, pids_in_session};
pub use kill::kill_all_children;
pub use kill::kill_process_group;
pub use kill::kill_tree_and_verify;
pub use kill::{Kill, is_gone, sigkill_pids_and_verify, wait_until_gone};
pub use process::{Process, ProcessId};
pub use report::{Coverage, Outcome, Reason, Report, Survivor};
