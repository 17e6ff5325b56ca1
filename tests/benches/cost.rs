//! What the crate costs: against bare system calls, and against what else there is.
//!
//! `cargo bench` measures all, `cargo bench -- find` or `-- kill` a part. The crates among the peers
//! have a program of their own: `cargo run --release --manifest-path tests/benches/peers/Cargo.toml`.
#![allow(unsafe_code, reason = "the bare system calls")]

mod find;
mod floor;
mod idle;
mod kill;
mod table;

use std::process::ExitCode;

/// Names, and ways to do the same job.
type List<F> = Vec<(&'static str, F)>;

/// What else does the same jobs.
#[derive(Default)]
pub(crate) struct Peers {
    /// Returns how many processes match.
    pub(crate) matching: List<fn(&str) -> usize>,
    /// Returns how many descendants there are.
    pub(crate) descendants: List<fn(u32) -> usize>,
    pub(crate) tree: List<fn(u32)>,
}

#[allow(dead_code, reason = "the program of the peers has its own")]
pub(crate) fn main() -> ExitCode {
    measure(&Peers::default())
}

pub(crate) fn measure(peers: &Peers) -> ExitCode {
    idle::in_own_pids(|| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        // The floor holds all pidfds at once.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        // Cargo adds options.
        let asked = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
        let is_asked = |table| asked.as_ref().is_none_or(|asked| asked == table);
        if is_asked("find") {
            find::tables(peers);
        }
        if is_asked("kill") {
            kill::tables(peers);
        }
    })
}
