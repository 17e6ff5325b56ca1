//! Kill and verify, compared with the bare system calls. Spawning and reaping are outside the timed
//! part.
#![expect(unsafe_code, reason = "the bare system calls")]
#![allow(missing_docs, reason = "benchmarks")]

mod idle;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use divan::Bencher;
use idle::Idle;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, setpgid};
use process_kill::{Report, descendant_pids, kill_tree_and_verify, sigkill_pids_and_verify};

fn main() {
    divan::main();
}

#[divan::bench_group(sample_size = 1, sample_count = 300)]
mod one {
    use super::*;

    #[divan::bench]
    fn bare_system_calls(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| start(1))
            .bench_local_refs(|idle| bare(&idle.pids));
    }

    #[divan::bench]
    fn sigkill_pids_and_verify(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| start(1))
            .bench_local_refs(|idle| verified(idle));
    }
}

#[divan::bench_group(sample_size = 1, sample_count = 50)]
mod hundred {
    use super::*;

    #[divan::bench]
    fn bare_system_calls(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| start(100))
            .bench_local_refs(|idle| bare(&idle.pids));
    }

    #[divan::bench]
    fn sigkill_pids_and_verify(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| start(100))
            .bench_local_refs(|idle| verified(idle));
    }
}

/// A tree of a hundred processes. The root and nine others have children. Then the same set by pid.
#[divan::bench_group(sample_size = 1, sample_count = 30)]
mod tree {
    use super::*;

    #[divan::bench]
    fn bare_system_calls(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| Tree::start(false))
            .bench_local_refs(|tree| {
                bare(&tree.pids);
            });
    }

    #[divan::bench]
    fn sigkill_pids_and_verify(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| Tree::start(false))
            .bench_local_refs(|tree| super::sigkill_pids_and_verify(&tree.pids).unwrap());
    }

    #[divan::bench(args = [0, 300, 3000])]
    fn kill_tree_and_verify(bencher: Bencher<'_, '_>, others: usize) {
        killed_among(bencher, others, false);
    }

    /// The search for orphans looks at all processes.
    #[divan::bench(args = [0, 300, 3000])]
    fn that_leads_its_group(bencher: Bencher<'_, '_>, others: usize) {
        killed_among(bencher, others, true);
    }

    fn killed_among(bencher: Bencher<'_, '_>, others: usize, leads: bool) {
        let others = start(others);
        bencher
            .with_inputs(|| Tree::start(leads))
            .bench_local_refs(|tree| {
                let report = super::kill_tree_and_verify(tree.root.pid()).unwrap();
                assert_eq!(report.len(), 100);
                report
            });
        drop(others);
    }
}

struct Tree {
    root: Idle,
    /// The root first.
    pids: Vec<u32>,
}

impl Tree {
    fn start(leads: bool) -> Tree {
        const BRANCHES: usize = 9;
        const TWIGS: usize = 10;
        let root = Idle::with(|| {
            if leads {
                setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            }
            for _ in 0..BRANCHES {
                std::mem::forget(Idle::with(|| {
                    for _ in 0..TWIGS {
                        std::mem::forget(Idle::start());
                    }
                }));
            }
        });
        loop {
            let mut pids = vec![root.pid()];
            pids.extend(descendant_pids(root.pid()).unwrap());
            if pids.len() == 1 + BRANCHES + BRANCHES * TWIGS {
                return Tree { root, pids };
            }
            std::thread::yield_now();
        }
    }
}

struct Crowd {
    pids: Vec<u32>,
    _idle: Vec<Idle>,
}

fn start(count: usize) -> Crowd {
    let idle = Vec::from_iter(std::iter::repeat_with(Idle::start).take(count));
    Crowd {
        pids: idle.iter().map(Idle::pid).collect(),
        _idle: idle,
    }
}

fn verified(crowd: &Crowd) -> Report {
    sigkill_pids_and_verify(&crowd.pids).unwrap()
}

/// Opens all and signals all, as the crate does. Then waits first for the process that was killed
/// last.
fn bare(pids: &[u32]) {
    let open = |&pid| pidfd_open(pid);
    let pidfds: Vec<OwnedFd> = pids.iter().map(open).collect();
    for pidfd in &pidfds {
        pidfd_send_sigkill(pidfd);
    }
    for pidfd in pidfds.iter().rev() {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::NONE), Ok(1));
    }
}

fn pidfd_open(pid: u32) -> OwnedFd {
    // SAFETY: two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    assert_ne!(fd, -1, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) }
}

fn pidfd_send_sigkill(pidfd: &OwnedFd) {
    let (fd, no_info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: an open descriptor, integers, and a null pointer, which is allowed.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0) };
    assert_ne!(rc, -1, "{}", std::io::Error::last_os_error());
}
