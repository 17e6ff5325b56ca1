//! A process is never taken for the one that got its pid later.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use process_kill::{
    Error, ErrorKind, Kill, Outcome, Process, ProcessId, Reason, sigkill_pids_and_verify,
    wait_until_gone,
};

use super::fixture::{PATIENCE, Victim, as_nobody, eventually, is_root, readable, states};

/// Above the limit of all kernels.
const NOBODY: u32 = i32::MAX.unsigned_abs();

fn of(pid: u32) -> ProcessId {
    ProcessId::of(pid).unwrap().expect("a process")
}

/// Waits until a child is a zombie, and does not reap it.
fn exited(victim: &Victim) -> u32 {
    let pid = nix::unistd::Pid::from_raw(victim.pid().try_into().unwrap());
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    victim.pid()
}

/// Kills a victim and reaps it: its pid is free.
fn reap(victim: &mut Victim) {
    victim.child().kill().unwrap();
    victim.child().wait().unwrap();
}

/// The text form with one of its fields changed: pid, start time, inode, boot.
fn altered(id: ProcessId, field: usize, change: impl FnOnce(&str) -> String) -> ProcessId {
    let text = id.to_string();
    let mut fields: Vec<String> = text.split(':').map(str::to_owned).collect();
    fields[field] = change(&fields[field]);
    fields.join(":").parse().unwrap()
}

/// It is gone, whatever has its pid now.
pub fn of_another_boot(id: ProcessId) -> ProcessId {
    altered(id, 3, |boot| match boot.split_at(1) {
        ("0", rest) => format!("1{rest}"),
        (_, rest) => format!("0{rest}"),
    })
}

fn plus_one(number: &str) -> String {
    (number.parse::<u64>().unwrap() + 1).to_string()
}

fn has_inode(id: ProcessId) -> bool {
    id.to_string().split(':').nth(2) != Some("-")
}

/// What `see` says of a process that was reaped and of another one that has its pid. Starts over if
/// a third process took the pid in between, or if `see` asks for that.
fn reused<S, T>(
    test: &str,
    mut prepare: impl FnMut(u32) -> S,
    mut see: impl FnMut(S, &mut Victim) -> Option<T>,
) -> Option<T> {
    const TRIES: u32 = 300;
    if !is_root(test) {
        return None;
    }
    for _ in 0..TRIES {
        let mut old = Victim::start("");
        let pid = old.pid();
        let prepared = prepare(pid);
        reap(&mut old);
        let Some(mut successor) = Victim::successor(pid) else {
            continue;
        };
        assert_eq!(successor.ready, [(pid, None)]);
        if let Some(seen) = see(prepared, &mut successor) {
            return Some(seen);
        }
    }
    println!("skipped: {test} found no successor in {TRIES} tries");
    None
}

fn outcomes(result: process_kill::Result<process_kill::Report>) -> Vec<(u32, Outcome)> {
    result.unwrap().iter().collect()
}

fn os_error(error: &Error) -> Option<i32> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<io::Error>()?.raw_os_error()
}

/// The reason of the only survivor.
fn reason(result: process_kill::Result<process_kill::Report>) -> Reason {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Survivors);
    assert_eq!(error.survivors().len(), 1, "{error}");
    error.survivors()[0].reason()
}

#[test]
fn an_identity_survives_a_pid_file() {
    let victim = Victim::start("");
    let id = of(victim.pid());
    assert_eq!(id.pid(), victim.pid());
    let text = id.to_string();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let boot = boot.trim().replace('-', "");
    assert!(text.ends_with(&format!(":{boot}:{namespace}")), "{text}");
    for text in [text.clone(), format!("{text}\n"), format!(" {text}\r\n")] {
        let read: ProcessId = text.parse().unwrap();
        assert_eq!(read, id);
        assert_eq!(read.start_time(), id.start_time());
        assert!(!read.is_gone().unwrap());
    }
    assert_eq!(of(victim.pid()), id);
}

#[test]
fn the_start_time_is_that_of_proc() {
    let victim = Victim::start("name=)");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", victim.pid())).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let start_time = after_name.split(' ').nth(22 - 3).unwrap();
    assert_eq!(of(victim.pid()).start_time().to_string(), start_time);
}

#[test]
fn only_processes_have_an_identity() {
    let victim = Victim::start("threads=2");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    for task in tasks {
        let tid: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let leads = tid == victim.pid();
        assert_eq!(ProcessId::of(tid).unwrap().is_some(), leads);
        assert_eq!(Process::open(tid).unwrap().is_some(), leads);
    }
    assert_eq!(ProcessId::of(NOBODY).unwrap(), None);
    assert!(Process::open(NOBODY).unwrap().is_none());
    for number in [0, NOBODY + 1, u32::MAX] {
        assert_eq!(
            ProcessId::of(number).unwrap_err().kind(),
            ErrorKind::Refused
        );
        assert_eq!(
            Process::open(number).unwrap_err().kind(),
            ErrorKind::Refused
        );
    }
    // Init and the caller are processes like all others.
    assert_eq!(of(1).pid(), 1);
    assert!(!of(std::process::id()).is_gone().unwrap());
}

#[test]
fn a_zombie_has_an_identity_and_is_gone() {
    let mut victim = Victim::start("exit");
    let zombie = exited(&victim);
    let id = of(zombie);
    assert!(id.is_gone().unwrap());
    let process = Process::open(zombie).unwrap().unwrap();
    assert_eq!(process.id(), id);
    assert!(process.wait_until_gone(Duration::ZERO).unwrap());
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(
        outcomes(Kill::now().processes(&[id])),
        [(zombie, Outcome::AlreadyGone)]
    );
    assert!(victim.child().wait().unwrap().success());
    assert!(id.is_gone().unwrap());
    assert!(process.wait_until_gone(Duration::ZERO).unwrap());
    process.signal(libc::SIGKILL).unwrap();
}

#[test]
fn a_process_whose_leader_has_exited_is_not_gone() {
    let mut victim = Victim::start("leader-exits");
    let pid = victim.pid();
    eventually("the leader exits", || states(pid).first() == Some(&'Z'));
    let process = Process::open(pid).unwrap().unwrap();
    assert!(!process.id().is_gone().unwrap());
    assert!(!process.wait_until_gone(Duration::ZERO).unwrap());
    assert!(victim.answers());
    process.signal(libc::SIGKILL).unwrap();
    assert!(process.wait_until_gone(PATIENCE).unwrap());
    assert!(process.id().is_gone().unwrap());
}

#[test]
fn a_process_of_another_boot_is_gone() {
    let mut victim = Victim::start("");
    let id = of(victim.pid());
    let other = of_another_boot(id);
    assert_ne!(other, id);
    assert!(other.is_gone().unwrap());
    for kill in [Kill::now(), Kill::graceful()] {
        assert_eq!(
            outcomes(kill.processes(&[other])),
            [(victim.pid(), Outcome::AlreadyGone)]
        );
    }
    assert!(victim.answers());
}

#[test]
fn a_process_of_an_unknown_boot_is_neither_gone_nor_signalled() {
    let mut victim = Victim::start("");
    let unknown = altered(of(victim.pid()), 3, |_| "-".to_owned());
    assert_eq!(unknown.is_gone().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(
        reason(Kill::now().processes(&[unknown])),
        Reason::Unverifiable
    );
    assert!(victim.answers());
}

#[test]
fn a_process_of_another_inode_is_gone() {
    let mut victim = Victim::start("");
    let id = of(victim.pid());
    if !has_inode(id) {
        println!("skipped: a_process_of_another_inode_is_gone needs Linux 6.9");
        return;
    }
    let other = altered(id, 2, plus_one);
    assert!(other.is_gone().unwrap());
    assert_eq!(
        outcomes(Kill::now().processes(&[other])),
        [(victim.pid(), Outcome::AlreadyGone)]
    );
    assert!(victim.answers());
}

#[test]
fn without_an_inode_the_start_time_tells() {
    let mut victim = Victim::start("");
    let same = altered(of(victim.pid()), 2, |_| "-".to_owned());
    assert!(!same.is_gone().unwrap());
    let other = altered(same, 1, plus_one);
    assert!(other.is_gone().unwrap());
    assert_eq!(
        outcomes(Kill::now().processes(&[other])),
        [(victim.pid(), Outcome::AlreadyGone)]
    );
    assert!(victim.answers());
    assert_eq!(
        outcomes(Kill::now().processes(&[same])),
        [(victim.pid(), Outcome::Killed)]
    );
    victim.all_gone();
}

#[test]
fn a_process_is_pinned_signalled_and_waited_for() {
    let mut victim = Victim::start("ignore=TERM");
    let process = Process::open(victim.pid()).unwrap().unwrap();
    assert_eq!(process.id(), of(victim.pid()));
    process.signal(libc::SIGTERM).unwrap();
    assert!(!process.wait_until_gone(Duration::ZERO).unwrap());
    assert_eq!(
        poll(
            &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
            PollTimeout::ZERO
        ),
        Ok(0)
    );
    const WHILE: Duration = Duration::from_millis(30);
    let start = Instant::now();
    assert!(!process.wait_until_gone(WHILE).unwrap());
    assert!(start.elapsed() >= WHILE);
    assert!(victim.answers());
    process.signal(libc::SIGKILL).unwrap();
    readable(&process, PATIENCE);
    assert!(process.wait_until_gone(Duration::ZERO).unwrap());
    assert!(process.wait_until_gone(Duration::MAX).unwrap());
    victim.all_gone();
    victim.child().wait().unwrap();
    process.signal(libc::SIGKILL).unwrap();
    assert!(process.id().is_gone().unwrap());
}

#[test]
fn what_is_no_signal_is_refused() {
    let mut victim = Victim::start("");
    let process = Process::open(victim.pid()).unwrap().unwrap();
    for signal in [0, -1, -9, 65, i32::MAX, i32::MIN] {
        let refused = process.signal(signal).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
    }
    assert!(victim.answers());
    // The refusal is the same if the process is gone.
    reap(&mut victim);
    assert_eq!(process.signal(0).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_signal_that_is_not_permitted_is_an_error_until_the_process_is_gone() {
    if !is_root("a_signal_that_is_not_permitted_is_an_error_until_the_process_is_gone") {
        return;
    }
    let mut victim = Victim::start("");
    let process = Process::open(victim.pid()).unwrap().unwrap();
    let denied = as_nobody(|| process.signal(libc::SIGKILL)).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Io);
    assert_eq!(os_error(&denied), Some(libc::EPERM));
    assert!(victim.answers());
    // A process that may not signal it can still see whether it is gone.
    assert!(!as_nobody(|| process.wait_until_gone(Duration::ZERO)).unwrap());
    assert!(!as_nobody(|| process.id().is_gone()).unwrap());
    let again = as_nobody(|| ProcessId::of(victim.pid())).unwrap();
    assert_eq!(again, Some(process.id()));
    victim.child().kill().unwrap();
    exited(&victim);
    as_nobody(|| process.signal(libc::SIGKILL)).unwrap();
    assert!(as_nobody(|| process.id().is_gone()).unwrap());
}

#[test]
fn a_handle_does_not_reach_the_successor() {
    reused(
        "a_handle_does_not_reach_the_successor",
        |pid| Process::open(pid).unwrap().unwrap(),
        |old, successor| {
            for signal in [libc::SIGTERM, libc::SIGSTOP, libc::SIGKILL] {
                old.signal(signal).unwrap();
            }
            assert!(old.wait_until_gone(Duration::ZERO).unwrap());
            assert!(old.wait_until_gone(Duration::MAX).unwrap());
            readable(&old, Duration::ZERO);
            assert!(successor.answers());
            let new = Process::open(old.id().pid()).unwrap().unwrap();
            assert_ne!(new.id(), old.id());
            assert!(!new.wait_until_gone(Duration::ZERO).unwrap());
            Some(())
        },
    );
}

#[test]
fn an_identity_does_not_reach_the_successor() {
    reused(
        "an_identity_does_not_reach_the_successor",
        of,
        |old, successor| {
            // Without an inode number, a successor of the same tick cannot be told apart.
            if of(old.pid()) == old {
                return None;
            }
            let gone = [(old.pid(), Outcome::AlreadyGone)];
            assert!(old.is_gone().unwrap());
            assert_eq!(outcomes(Kill::now().processes(&[old])), gone);
            assert_eq!(outcomes(Kill::graceful().processes(&[old])), gone);
            assert_eq!(outcomes(Kill::now().processes(&[old, old])), gone);
            let from_file: ProcessId = format!("{old}\n").parse().unwrap();
            assert!(from_file.is_gone().unwrap());
            assert_eq!(outcomes(Kill::now().processes(&[from_file])), gone);
            assert!(successor.answers());
            assert!(!of(old.pid()).is_gone().unwrap());
            Some(())
        },
    );
}

#[test]
fn of_two_with_one_pid_the_one_that_lives_is_killed() {
    for order in [[0, 1], [1, 0]] {
        reused(
            "of_two_with_one_pid_the_one_that_lives_is_killed",
            of,
            |old, successor| {
                let new = of(old.pid());
                if old == new {
                    return None;
                }
                let ids = order.map(|at| [old, new][at]);
                let ends = order.map(|at| [Outcome::AlreadyGone, Outcome::Killed][at]);
                assert_eq!(
                    outcomes(Kill::now().processes(&ids)),
                    ends.map(|end| (old.pid(), end))
                );
                assert!(new.is_gone().unwrap());
                successor.all_gone();
                Some(())
            },
        );
    }
}

#[test]
fn a_pid_alone_is_the_successors() {
    reused("a_pid_alone_is_the_successors", of, |old, successor| {
        let pid = old.pid();
        let still_there = wait_until_gone(&[pid], Duration::ZERO);
        assert_eq!(reason(still_there), Reason::StillRunning);
        assert_eq!(
            outcomes(sigkill_pids_and_verify(&[pid])),
            [(pid, Outcome::Killed)]
        );
        successor.all_gone();
        Some(())
    });
}

#[test]
fn without_an_inode_a_successor_of_the_same_clock_tick_is_taken_for_it() {
    // This is the one hole, and the docs name it. Without the inode number, both have the same
    // text.
    let without_inode = |id: ProcessId| -> ProcessId {
        let text = id.to_string();
        let mut fields: Vec<&str> = text.split(':').collect();
        fields[2] = "-";
        fields.join(":").parse().unwrap()
    };
    reused(
        "without_an_inode_a_successor_of_the_same_clock_tick_is_taken_for_it",
        of,
        |old, successor| {
            let blind = without_inode(old);
            match of(old.pid()).start_time() == old.start_time() {
                true => assert!(!blind.is_gone().unwrap()),
                // A different tick tells them apart, so the test starts over.
                false => {
                    assert!(blind.is_gone().unwrap());
                    return None;
                }
            }
            assert!(successor.answers());
            Some(())
        },
    );
}

#[test]
fn a_successor_of_the_same_clock_tick_is_told_apart() {
    let test = "a_successor_of_the_same_clock_tick_is_told_apart";
    if !has_inode(of(std::process::id())) {
        println!("skipped: {test} needs Linux 6.9");
        return;
    }
    reused(
        test,
        |pid| Process::open(pid).unwrap().unwrap(),
        |process, successor| {
            let old = process.id();
            let new = of(old.pid());
            if new.start_time() != old.start_time() {
                return None;
            }
            assert_ne!(new, old);
            assert!(old.is_gone().unwrap());
            assert!(!new.is_gone().unwrap());
            process.signal(libc::SIGKILL).unwrap();
            for kill in [Kill::now(), Kill::graceful()] {
                assert_eq!(
                    outcomes(kill.processes(&[old])),
                    [(old.pid(), Outcome::AlreadyGone)]
                );
            }
            assert!(successor.answers());
            Some(())
        },
    );
}
