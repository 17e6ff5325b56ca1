//! Processes of other programs live on, however close to a target they are.

use std::time::Duration;

use nix::unistd::{ForkResult, Pid, fork, getpgid};
use process_kill::child::{Group, Registry, adopt_orphans};
use process_kill::{Kill, Outcome};

use super::child::Crew;
use super::fixture::{PATIENCE, Victim, alone, eventually, outcomes, patient, states};
use super::tree::unmoved;

/// This uses none of the crate's code. `None` if there is no such process.
fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("PPid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn is_leader(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    getpgid(Some(pid)) == Ok(pid)
}

/// The only process of the family for which this holds.
fn the_one(victim: &Victim, is_it: impl Fn(u32) -> bool) -> u32 {
    let found: Vec<u32> = (victim.others().into_iter())
        .filter(|&pid| is_it(pid))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

/// The only process of the family that has lost its parent. Waits until there is one.
fn the_orphan(victim: &Victim) -> u32 {
    let family = victim.pids();
    let is_orphan = |pid: &u32| {
        matches!(states(*pid)[..], [state, ..] if state != 'Z')
            && parent(*pid).is_some_and(|of| !family.contains(&of))
    };
    let mut orphan = None;
    eventually("one loses its parent", || {
        orphan = victim.others().into_iter().find(is_orphan);
        orphan.is_some()
    });
    orphan.unwrap()
}

/// A shell starts two jobs in one group, and exits when the first job obeys SIGTERM. The second job
/// is then an orphan. It is in the group that the root led, but it is not a descendant of the root.
#[test]
fn a_job_mate_whose_shell_exits_during_the_grace_is_left_alone() {
    let mut shell = Victim::start("job{ { ignore=TERM } } job{ } follow");
    let root = the_one(&shell, is_leader);
    let below = the_one(&shell, |pid| parent(pid) == Some(root));
    let mate = the_one(&shell, |pid| {
        pid != root && parent(pid) == Some(shell.pid())
    });
    let kill = Kill::graceful().grace(Duration::from_secs(1));
    let report = unmoved(&[mate], || kill.verify_within(PATIENCE).tree(root).unwrap());
    // The shell exits before the second signal.
    assert_eq!(states(shell.pid()), ['Z']);
    assert_eq!(
        outcomes(&report),
        [(root, Outcome::Exited), (below, Outcome::Killed)]
    );
    assert!(shell.answers());
}

/// The case `root | { background & }`: the second job has exited, and its child is in the group of
/// the root.
#[test]
fn an_orphan_of_a_job_mate_is_left_alone() {
    for kill in [patient(), Kill::graceful().grace(PATIENCE)] {
        let shell = Victim::start("job{ } job{ { } exit }");
        let root = the_one(&shell, is_leader);
        let orphan = the_orphan(&shell);
        let report = unmoved(&[orphan], || kill.tree(root).unwrap());
        let pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [root]);
    }
}

/// A process enters a session only by birth, so an orphan in a session descends from the session's
/// leader.
#[test]
fn an_orphan_in_a_session_that_a_member_leads_is_killed() {
    for kill in [patient(), Kill::graceful().grace(PATIENCE)] {
        // The parent of the root is another process than the caller.
        let mut shell = Victim::start("{ setpgid { setsid { { setpgid } exit } } }");
        let root = the_one(&shell, |pid| parent(pid) == Some(shell.pid()));
        let leader = the_one(&shell, |pid| parent(pid) == Some(root));
        let orphan = the_orphan(&shell);
        let report = kill.tree(root).unwrap();
        let mut pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        pids.sort_unstable();
        let mut expected = [root, leader, orphan];
        expected.sort_unstable();
        assert_eq!(pids, expected);
        shell.let_go();
        shell.all_gone();
    }
}

/// The caller made the group, so the whole group belongs to the root.
#[test]
fn an_orphan_in_a_group_that_a_child_of_the_caller_leads_is_killed() {
    if !alone!(an_orphan_in_a_group_that_a_child_of_the_caller_leads_is_killed) {
        return;
    }
    // In the first round, orphans go to init. In the second one, they go to the caller itself.
    for round in 0..2 {
        let mut victim = Victim::start("setpgid { { ignore=TERM } exit }");
        let orphan = the_orphan(&victim);
        let report = patient().tree(victim.pid()).unwrap();
        let mut pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        pids.sort_unstable();
        let mut expected = [victim.pid(), orphan];
        expected.sort_unstable();
        assert_eq!(pids, expected, "round {round}");
        victim.all_gone();
        adopt_orphans().unwrap();
    }
}

/// The shell has exited and the worker lives. A zombie keeps its number, so the group is still its
/// own.
#[test]
fn an_orphan_in_a_group_that_a_zombie_of_the_caller_leads_is_killed() {
    for kill in [patient(), Kill::graceful().grace(PATIENCE)] {
        let mut victim = Victim::start("setpgid { } exit");
        victim.until_zombie();
        let worker = the_orphan(&victim);
        let report = kill.tree(victim.pid()).unwrap();
        let pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [victim.pid(), worker]);
        assert_eq!(
            report.iter().next(),
            Some((victim.pid(), Outcome::AlreadyGone))
        );
        victim.all_gone();
    }
}

/// Runs `f` in a forked copy of this program. Then the copy exits.
fn in_a_copy(f: impl FnOnce()) {
    // SAFETY: no other thread of this program holds a lock that the copy needs, because the thread
    // that runs the tests waits for this one.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            // SAFETY: ends the copy at once, so nothing else is dropped in it.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}

#[test]
fn a_managed_child_dropped_by_a_forked_copy_of_the_caller_lives_on() {
    if !alone!(a_managed_child_dropped_by_a_forked_copy_of_the_caller_lives_on) {
        return;
    }
    for group in [Group::New, Group::NewSession, Group::Inherit] {
        let mut crew = Crew::start("", group);
        let managed = &raw const crew.managed;
        // SAFETY: the copy has memory of its own and exits without dropping its `crew`.
        in_a_copy(|| drop(unsafe { managed.read() }));
        assert!(crew.answers(), "{group:?}");
    }
}

#[test]
fn a_registry_killed_by_a_forked_copy_of_the_caller_kills_nothing() {
    if !alone!(a_registry_killed_by_a_forked_copy_of_the_caller_kills_nothing) {
        return;
    }
    let registry = Registry::new();
    let mut crew = Crew::start("", Group::New);
    let mut group = Victim::start("setpgid");
    let tickets = [
        registry.add(&crew.managed).unwrap(),
        registry.add_group(group.pid()).unwrap(),
    ];
    // This test does not ask whether that is an error.
    in_a_copy(|| drop(registry.kill_all(&Kill::now())));
    assert!(crew.answers());
    assert!(group.answers());
    // In this process, the registry still kills.
    let report = registry.kill_all(&patient()).unwrap();
    assert_eq!(
        report.pids(Outcome::Killed),
        [crew.managed.id(), group.pid()]
    );
    drop(tickets);
    crew.all_gone();
    group.all_gone();
}
