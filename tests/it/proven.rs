//! `Ok` is never false: what was not seen gone is an error, however rare the case.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use process_kill::Kill;

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, eventually, is_root, readable, runs, states, stubborn,
};

/// More than enough for a pipe to be at its end whose last holder is gone already.
const MOMENT: Duration = Duration::from_millis(200);

/// A fork of a victim that is under way; see `held-fork` in `tests/bin/stubborn.rs`.
struct HeldFork {
    events: File,
}

impl HeldFork {
    /// Waits until the fork is held.
    fn of(pid: u32, fd: u16) -> HeldFork {
        // SAFETY: three integers, and the results are descriptors of our own.
        let events = unsafe {
            let pid: i32 = pid.try_into().unwrap();
            let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            assert!(process >= 0, "{}", std::io::Error::last_os_error());
            let process = OwnedFd::from_raw_fd(process.try_into().unwrap());
            // Linux 5.6.
            let events =
                libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), i32::from(fd), 0);
            assert!(events >= 0, "{}", std::io::Error::last_os_error());
            File::from(OwnedFd::from_raw_fd(events.try_into().unwrap()))
        };
        readable(&events, PATIENCE);
        HeldFork { events }
    }

    /// Lets the child be born. False: the fork was ended by a signal, and there is no child.
    fn release(mut self) -> bool {
        const FORK: u8 = 0x13;
        // `struct uffd_msg`.
        let mut message = [0; 32];
        match self.events.read(&mut message) {
            Ok(length) => {
                assert_eq!((length, message[0]), (message.len(), FORK));
                let fd = i32::from_ne_bytes(message[8..12].try_into().unwrap());
                // SAFETY: the read made it, and only we know of it. It is for events of the child.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                true
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        }
    }
}

/// SIGSTOP does not end a fork that is under way: the child is born after its parent was listed.
/// Another member sleeps in state D too, as a vfork(2) parent does, so a walk has to look twice.
#[test]
fn a_child_whose_fork_is_under_way_is_not_missed() {
    // Events of forks are for CAP_SYS_PTRACE, whatever vm.unprivileged_userfaultfd says.
    if !is_root("a_child_whose_fork_is_under_way_is_not_missed")
        || !alone!(a_child_whose_fork_is_under_way_is_not_missed in OWN_PIDS)
    {
        return;
    }
    const ROUNDS: u32 = 20;
    let (mut oks, mut born) = (0, 0);
    let mut false_oks = Vec::new();
    let delays =
        (0..ROUNDS * runs(1)).map(|round| Duration::from_millis((round % ROUNDS * 3).into()));
    for delay in delays {
        let mut victim = Victim::start("{ held-fork } { vfork=quiet }");
        let holder = victim.ready.iter().find_map(|&(pid, fd)| Some((pid, fd?)));
        let (holder, fd) = holder.unwrap();
        let others = victim.others();
        let vforker = *others.iter().find(|&&pid| pid != holder).unwrap();
        let fork = HeldFork::of(holder, fd);
        eventually("D", || states(holder) == ['D'] && states(vforker) == ['D']);
        let begin = Barrier::new(2);
        let (ended, is_born) = thread::scope(|scope| {
            let release = scope.spawn(|| {
                begin.wait();
                // Not to wait for anything: the moments of the call are gone through one by one.
                thread::sleep(delay);
                fork.release()
            });
            begin.wait();
            let ended = Kill::now().tree(victim.pid());
            (ended, release.join().unwrap())
        });
        oks += u32::from(ended.is_ok());
        born += u32::from(is_born);
        // An error may be honest: the fork was under way until the end.
        if ended.is_ok() && !victim.is_all_gone(MOMENT) {
            false_oks.push(delay);
        }
        victim.let_go();
        victim.all_gone();
    }
    println!("{oks} times Ok, {born} children born");
    assert_eq!(false_oks, []);
}

#[test]
fn a_fork_that_is_under_way_until_the_end_is_killed() {
    if !is_root("a_fork_that_is_under_way_until_the_end_is_killed")
        || !alone!(a_fork_that_is_under_way_until_the_end_is_killed in OWN_PIDS)
    {
        return;
    }
    let mut victim = Victim::start("{ held-fork }");
    let (holder, fd) = victim
        .ready
        .iter()
        .find_map(|&(pid, fd)| Some((pid, fd?)))
        .unwrap();
    let fork = HeldFork::of(holder, fd);
    Kill::now().tree(victim.pid()).unwrap();
    assert!(!fork.release());
    victim.all_gone();
}

/// Each process of a chain forks the next one and exits. It is often over before a scan of /proc gets
/// to it, and the next one may have a number that the scan has passed: so scans come back empty while
/// the chain goes on.
#[test]
fn a_search_that_met_a_chain_of_forks_is_not_believed_empty() {
    let name = "a_search_that_met_a_chain_of_forks_is_not_believed_empty";
    if !is_root(name)
        || !alone!(a_search_that_met_a_chain_of_forks_is_not_believed_empty in OWN_PIDS)
    {
        return;
    }
    let (mut oks, mut false_oks) = (0, 0);
    for round in 0..runs(12) {
        let mut chains: Vec<Victim> = (0..=round % 3)
            .map(|_| {
                let mut chain = stubborn("leapfrog");
                chain.arg("chained");
                Victim::spawn(chain)
            })
            .collect();
        let kill = Kill::now().verify_within(Duration::from_millis(100));
        let ended = kill.matching("^[^ ]*/stubborn chained$");
        oks += u32::from(ended.is_ok());
        if ended.is_ok() && !chains.iter_mut().all(|chain| chain.is_all_gone(MOMENT)) {
            false_oks += 1;
        }
        for chain in &mut chains {
            chain.let_go();
            chain.all_gone();
        }
    }
    println!("{oks} times Ok");
    assert_eq!(false_oks, 0);
}
