//! Finds processes on Linux, kills them, and proves them gone.
#![allow(
    unexpected_cfgs,
    reason = "a crate that has copied this source has no feature `tokio`"
)]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!("process-kill reads Linux's /proc and pidfds: it works on Linux and Android only");

pub mod child;
mod error;
mod find;
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
pub use find::pids_with_cwd_under;
pub use find::{Candidate, pids_with_env, processes_where};
pub use find::{descendant_pids, descendants};
pub use find::{pids_in_group, pids_in_session};
pub use kill::kill_all_children;
pub use kill::kill_process_group;
pub use kill::kill_tree_and_verify;
pub use kill::{Kill, sigkill_pids_and_verify, wait_until_gone};
pub use process::{Process, ProcessId};
pub use report::{Coverage, Outcome, Reason, Report, Survivor};

/// The README's examples are compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
