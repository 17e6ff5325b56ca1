//! Kill and verify, against the bare system calls. Spawning and reaping are outside the timed part.
#![expect(unsafe_code, reason = "the bare system calls")]
#![allow(missing_docs, reason = "benchmarks")]

mod idle;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use divan::Bencher;
use idle::Idle;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use process_kill::{Report, sigkill_pids_and_verify};

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
            .bench_local_refs(|idle| bare(idle));
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
            .bench_local_refs(|idle| bare(idle));
    }

    #[divan::bench]
    fn sigkill_pids_and_verify(bencher: Bencher<'_, '_>) {
        bencher
            .with_inputs(|| start(100))
            .bench_local_refs(|idle| verified(idle));
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

/// Opens all, signals all, and waits for the one killed last first, as the crate does.
fn bare(crowd: &Crowd) {
    let open = |&pid| pidfd_open(pid);
    let pidfds: Vec<OwnedFd> = crowd.pids.iter().map(open).collect();
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
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd.try_into().unwrap()) }
}

fn pidfd_send_sigkill(pidfd: &OwnedFd) {
    let (fd, no_info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: an open descriptor, integers, and a null pointer, which is allowed.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0) };
    assert_ne!(rc, -1, "{}", std::io::Error::last_os_error());
}
