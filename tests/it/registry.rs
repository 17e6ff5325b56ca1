//! Processes that must not outlive the program.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, gettid};
use process_kill::child::{CommandExt, Group, Managed, Registry};
use process_kill::{ErrorKind, Kill, Outcome, Reason, wait_until_gone};

use super::child::Crew;
use super::fixture::{
    PATIENCE, Victim, alone, as_nobody, asleep_in, is_root, patient, reasons, runs, signal_thread,
};

fn sleep(group: Group) -> Managed {
    let mut command = Command::new("sleep");
    command.arg("60").spawn_managed(group).unwrap()
}

#[test]
fn all_are_killed_and_the_gate_is_closed() {
    static REGISTRY: Registry = Registry::new();
    let mut crews = [Group::Inherit, Group::New, Group::NewSession]
        .map(|group| Crew::start("ignore=TERM { } { setsid }", group));
    let tickets = crews
        .each_ref()
        .map(|crew| REGISTRY.add(&crew.managed).unwrap());
    let mut group = Victim::start("setpgid { }");
    let ticket = REGISTRY.add_group(group.pid()).unwrap();
    let report = REGISTRY.kill_all(&patient()).unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 3 * 3 + 2);
    group.all_gone();
    for crew in &mut crews {
        crew.all_gone();
        // No process was reaped.
        assert!(!crew.managed.wait().unwrap().success());
        let refused = REGISTRY.add(&crew.managed).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
    }
    let refused = REGISTRY.add_group(crews[0].managed.id()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(REGISTRY.kill_all(&patient()).unwrap().is_empty());
    drop((tickets, ticket));
}

#[test]
fn who_has_left_is_not_killed() {
    let registry = Registry::new();
    let mut crew = Crew::start("", Group::New);
    drop(registry.add(&crew.managed).unwrap());
    drop(registry.add_group(crew.managed.id()).unwrap());
    assert!(registry.kill_all(&patient()).unwrap().is_empty());
    assert!(crew.answers());
}

#[test]
fn tickets_of_one_group_are_independent() {
    let registry = Registry::new();
    // Of a group its members' descendants are ended too.
    let mut group = Victim::start("setpgid { setsid }");
    let first = registry.add_group(group.pid()).unwrap();
    let second = registry.add_group(group.pid()).unwrap();
    drop(first);
    let report = registry.kill_all(&patient()).unwrap();
    assert_eq!(report.len(), 2);
    group.all_gone();
    drop(second);
}

#[test]
fn a_second_kill_ends_the_grace_of_the_first() {
    let registry = Registry::new();
    let mut crew = Crew::start("ignore=TERM", Group::New);
    let _ticket = registry.add(&crew.managed).unwrap();
    let report = thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let (registry, first) = (&registry, Kill::graceful().grace(Duration::MAX));
        let first = scope.spawn(move || {
            tell.send(gettid()).unwrap();
            registry.kill_all(&first)
        });
        asleep_in(told.recv().unwrap(), libc::SYS_ppoll);
        registry.kill_all(&Kill::now()).unwrap();
        first.join().unwrap().unwrap()
    });
    assert_eq!(report.pids(Outcome::Exited), [crew.managed.id()]);
    crew.all_gone();
}

#[test]
fn bad_groups_are_refused_before_anything_is_killed() {
    let registry = Registry::new();
    let own = nix::unistd::getpgrp().as_raw().unsigned_abs();
    for pgid in [0, 1, own, 1 << 31, u32::MAX] {
        let refused = registry.add_group(pgid).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{pgid}");
    }
}

#[test]
fn a_first_signal_that_is_none_changes_nothing() {
    let registry = Registry::new();
    let mut crew = Crew::start("", Group::New);
    let ticket = registry.add(&crew.managed).unwrap();
    let refused = registry.kill_all(&Kill::graceful().first_signal(0));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    assert!(crew.answers());
    drop(registry.add(&crew.managed).unwrap());
    registry.kill_all(&patient()).unwrap();
    crew.all_gone();
    assert!(registry.add(&crew.managed).is_err());
    drop(ticket);
}

#[test]
fn survivors_stay_listed() {
    if !is_root("survivors_stay_listed") {
        return;
    }
    let registry = Registry::new();
    let mut protected = Crew::start("", Group::New);
    let mut weak = Crew::start("nobody", Group::New);
    let group = Victim::start("setpgid");
    let ticket = (
        registry.add(&protected.managed).unwrap(),
        registry.add(&weak.managed).unwrap(),
        registry.add_group(group.pid()).unwrap(),
    );
    for _ in 0..2 {
        let error = as_nobody(|| registry.kill_all(&patient()).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Survivors);
        let mut survivors = reasons(&error);
        survivors.sort_unstable_by_key(|&(pid, _)| pid);
        let mut expected = [protected.managed.id(), group.pid()];
        expected.sort_unstable();
        assert_eq!(survivors, expected.map(|pid| (pid, Reason::NotPermitted)));
        weak.all_gone();
        assert!(protected.answers());
    }
    let report = registry.kill_all(&patient()).unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 2);
    assert!(registry.kill_all(&patient()).unwrap().is_empty());
    drop(ticket);
}

#[test]
fn several_may_kill_at_once_while_tickets_are_dropped() {
    let registry = Registry::new();
    let mut children: Vec<Managed> = (0..8).map(|_| sleep(Group::New)).collect();
    let mut tickets: Vec<_> = children.iter().map(|c| registry.add(c).unwrap()).collect();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                start.wait();
                registry.kill_all(&patient().grace(PATIENCE)).unwrap();
            });
        }
        start.wait();
        tickets.truncate(4);
    });
    for child in &mut children[..4] {
        assert!(!child.wait().unwrap().success());
    }
}

/// Each race is one `add` against `kill_all`. Either the child is listed and killed, or `add`
/// refuses it and it stays with its owner.
#[test]
fn a_child_is_either_killed_or_refused() {
    const AT_ONCE: usize = 10;
    let mut children: Vec<Managed> = (0..AT_ONCE).map(|_| sleep(Group::New)).collect();
    let (mut killed, mut refused) = (0, 0);
    for round in 0..100 {
        let registry = Registry::new();
        let start = Barrier::new(2);
        // In most rounds, the two meet in the middle.
        let before = round % AT_ONCE;
        let mut tickets = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                registry.kill_all(&patient()).unwrap();
            });
            for child in &children[..before] {
                tickets.push(registry.add(child).map_err(|e| e.kind()));
            }
            start.wait();
            for child in &children[before..] {
                tickets.push(registry.add(child).map_err(|e| e.kind()));
            }
        });
        for (child, ticket) in children.iter_mut().zip(&tickets) {
            match ticket {
                Ok(_) => {
                    killed += 1;
                    // The child is dead, so this does not wait.
                    assert!(child.child().try_wait().unwrap().is_some());
                    *child = sleep(Group::New);
                }
                Err(kind) => {
                    refused += 1;
                    assert_eq!(*kind, ErrorKind::Refused);
                    assert!(child.child().try_wait().unwrap().is_none());
                }
            }
        }
    }
    println!("{killed} killed, {refused} refused");
    assert_eq!(killed + refused, 1000);
    // These children were added before the two threads were let go.
    assert!(killed >= 450, "{killed}");
}

#[test]
fn a_thread_that_handles_signals_can_kill_all() {
    static REGISTRY: Registry = Registry::new();
    let (tell, ready) = mpsc::channel();
    let handler = thread::spawn(move || {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.thread_block().unwrap();
        tell.send(nix::unistd::gettid()).unwrap();
        assert_eq!(signals.wait().unwrap(), Signal::SIGTERM);
        REGISTRY.kill_all(&patient().grace(Duration::from_millis(50)))
    });
    let tid = ready.recv().unwrap();
    let mut crew = Crew::start("ignore=TERM { ignore=TERM }", Group::New);
    let ticket = REGISTRY.add(&crew.managed).unwrap();
    // A signal to the process could go to any thread.
    signal_thread(tid, libc::SIGTERM);
    // The owner waits at the same time. That does not disturb the kill.
    assert!(!crew.managed.wait().unwrap().success());
    let report = handler.join().unwrap().unwrap();
    assert_eq!(report.len(), 2);
    crew.all_gone();
    drop(ticket);
}

/// A thread that another process does not have may hold the lock when that process is forked.
#[test]
fn a_ticket_in_a_forked_copy_does_not_wait_for_the_lock() {
    static REGISTRY: Registry = Registry::new();
    // Far more than the copy needs.
    const LONG: Duration = Duration::from_secs(5);
    // The copies would hold the pipes of other tests.
    if !alone!(a_ticket_in_a_forked_copy_does_not_wait_for_the_lock) {
        return;
    }
    let child = sleep(Group::New);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    drop(REGISTRY.add(&child).unwrap());
                }
            });
        }
        let ends = || {
            let mut ticket = Some(REGISTRY.add(&child).unwrap());
            // SAFETY: the copy takes no lock, if the ticket does not.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    drop(ticket.take());
                    // SAFETY: ends the copy at once.
                    unsafe { libc::_exit(0) };
                }
                ForkResult::Parent { child: copy } => {
                    let ended = wait_until_gone(&[copy.as_raw().unsigned_abs()], LONG);
                    nix::sys::signal::kill(copy, Signal::SIGKILL).unwrap();
                    waitpid(copy, None).unwrap();
                    ended.is_ok()
                }
            }
        };
        let all_end = (0..runs(1000)).all(|_| ends());
        is_over.store(true, Ordering::Relaxed);
        assert!(all_end, "one hangs");
    });
}
