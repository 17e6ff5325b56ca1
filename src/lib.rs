#![doc = include_str!("../README.md")]

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
pub use find::{
    Candidate, descendant_pids, descendants, pids_in_group, pids_in_session, pids_matching,
    pids_with_cwd_under, pids_with_env, processes_where,
};
pub use kill::{
    Kill, kill_all_children, kill_process_group, kill_tree_and_verify, sigkill_pids_and_verify,
    wait_until_gone,
};
pub use process::{Process, ProcessId};
pub use report::{Coverage, Outcome, Reason, Report, Survivor};
