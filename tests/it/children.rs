//! Every descendant of the calling process.

use std::time::{Duration, Instant};

use process_kill::child::adopt_orphans;
use process_kill::{Coverage, Kill, Outcome, Reason, kill_all_children};

use super::fixture::{
    AS_INIT, OWN_PIDS, PATIENCE, Victim, alone, as_nobody, eventually, is_root, reasons, runs,
    states,
};

/// What a process that adopts orphans has to do.
fn reap_all() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

fn leapfroggers_lose(runs: u32) {
    for _ in 0..runs {
        let mut victim = Victim::start("{ leapfrog } { setsid { exit } }");
        let report = Kill::now().verify_within(PATIENCE).children().unwrap();
        assert_eq!(report.coverage(), Coverage::Exact);
        victim.all_gone();
        reap_all();
    }
}

#[test]
fn children_of_a_subreaper_are_killed_whatever_they_do() {
    if !alone!(children_of_a_subreaper_are_killed_whatever_they_do in OWN_PIDS) {
        return;
    }
    adopt_orphans().unwrap();
    leapfroggers_lose(runs(30));
}

#[test]
fn children_of_pid_1_are_killed_whatever_they_do() {
    if !alone!(children_of_pid_1_are_killed_whatever_they_do in AS_INIT) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    leapfroggers_lose(runs(30));
}

#[test]
fn all_children_of_a_process_are_killed() {
    if !alone!(all_children_of_a_process_are_killed) {
        return;
    }
    let mut victim = Victim::start("{ setsid { } } { }");
    let mut other = Victim::start("{ setpgid }");
    let report = kill_all_children().unwrap();
    let mut exited = report.pids(Outcome::Exited);
    exited.sort_unstable();
    let mut expected = [victim.pids(), other.pids()].concat();
    expected.sort_unstable();
    assert_eq!(exited, expected);
    assert_eq!(report.coverage(), Coverage::BestEffort);
    victim.all_gone();
    other.all_gone();
    // Their zombies do not count as targets.
    assert!(kill_all_children().unwrap().is_empty());
}

#[test]
fn obedient_children_exit_and_stubborn_ones_are_killed() {
    if !alone!(obedient_children_exit_and_stubborn_ones_are_killed) {
        return;
    }
    adopt_orphans().unwrap();
    let mut victim = Victim::start("{ { } ignore=TERM } { heir }");
    let kill = Kill::graceful().grace(Duration::from_secs(3));
    let report = kill.verify_within(PATIENCE).children().unwrap();
    assert_eq!(victim.line(), "heir");
    assert_eq!(report.coverage(), Coverage::Exact);
    assert_eq!(report.pids(Outcome::Exited).len(), 3);
    assert_eq!(report.pids(Outcome::Killed).len(), 2);
    victim.all_gone();
    reap_all();
}

#[test]
fn children_that_may_not_be_signalled_are_left_as_they_were() {
    if !is_root("children_that_may_not_be_signalled_are_left_as_they_were")
        || !alone!(children_that_may_not_be_signalled_are_left_as_they_were)
    {
        return;
    }
    adopt_orphans().unwrap();
    for kill in [
        Kill::now().verify_within(PATIENCE),
        Kill::graceful().grace(PATIENCE),
    ] {
        let mut stopped = Victim::start("stop");
        let mut forbidden = Victim::start("");
        let mut permitted = Victim::start("nobody");
        eventually("the stop", || states(stopped.pid()) == ['T']);
        let begun = Instant::now();
        let kill = kill.verify_within(PATIENCE);
        let error = as_nobody(|| kill.children().unwrap_err());
        assert!(begun.elapsed() < PATIENCE / 3);
        let mut survivors = reasons(&error);
        survivors.sort_unstable_by_key(|&(pid, _)| pid);
        let expected = [&stopped, &forbidden].map(|v| (v.pid(), Reason::NotPermitted));
        assert_eq!(survivors, expected);
        permitted.all_gone();
        assert!(forbidden.answers());
        // Every process of the same session may send SIGCONT, but the call has not sent it.
        assert_eq!(states(stopped.pid()), ['T']);
        stopped.child().kill().unwrap();
        stopped.all_gone();
        forbidden.let_go();
        forbidden.all_gone();
        reap_all();
    }
}
