//! Whole trees.

use std::time::Duration;

use process_kill::{Coverage, ErrorKind, Kill, Outcome, kill_tree_and_verify};

use super::fixture::{Victim, alone, eventually, states};

#[test]
fn a_tree_is_killed_whole() {
    let mut victim = Victim::start("{ ignore=TERM { } } { setsid { } } thread{ threads=3 { } }");
    let report = kill_tree_and_verify(victim.pid()).unwrap();
    let mut killed = report.pids(Outcome::Killed);
    assert_eq!(killed[0], victim.pid());
    killed.sort_unstable();
    assert_eq!(killed, victim.pids());
    assert_eq!(report.coverage(), Coverage::BestEffort);
    victim.all_gone();
}

#[test]
fn a_respawning_parent_loses() {
    for _ in 0..30 {
        let mut victim = Victim::start("respawn{ { } }");
        kill_tree_and_verify(victim.pid()).unwrap();
        victim.all_gone();
    }
}

#[test]
fn orphans_in_a_group_of_the_tree_are_killed() {
    let mut victim = Victim::start("setpgid { { ignore=TERM } exit }");
    let parent_is_dead = |pid: u32| states(pid) == ['Z'];
    let others = victim.others();
    eventually("the middle one exits", || {
        others.iter().any(|&pid| parent_is_dead(pid))
    });
    let report = kill_tree_and_verify(victim.pid()).unwrap();
    victim.all_gone();
    assert_eq!(report.len(), 2);
}

#[test]
fn a_storm_is_killed_in_every_run() {
    if !alone!(
        a_storm_is_killed_in_every_run,
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        "\"$@\"; exit $?",
        "sh"
    ) {
        return;
    }
    for _ in 0..50 {
        let mut victim = Victim::start("storm=200");
        assert_eq!(victim.line(), "storming");
        kill_tree_and_verify(victim.pid()).unwrap();
        victim.all_gone();
    }
}

#[test]
fn a_chain_in_a_group_of_the_tree_is_outrun() {
    if !alone!(
        a_chain_in_a_group_of_the_tree_is_outrun,
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        "\"$@\"; exit $?",
        "sh"
    ) {
        return;
    }
    for _ in 0..20 {
        let mut victim = Victim::start("setpgid { leapfrog=stay }");
        let result = kill_tree_and_verify(victim.pid());
        result.unwrap();
        victim.all_gone();
    }
}

#[test]
fn init_and_the_caller_and_its_ancestors_are_refused() {
    let parent = std::os::unix::process::parent_id();
    for root in [0, 1, u32::MAX, std::process::id(), parent] {
        let error = Kill::now().tree(root).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{root}");
    }
}

#[test]
fn an_obedient_tree_ends_the_grace_at_once() {
    let mut victim = Victim::start("{ } { { } }");
    let report = Kill::graceful()
        .grace(Duration::MAX)
        .tree(victim.pid())
        .unwrap();
    assert_eq!(report.pids(Outcome::Exited).len(), 4);
    victim.all_gone();
}
