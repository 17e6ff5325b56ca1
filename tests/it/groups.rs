//! Process groups.

use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{Pid, gettid};
use process_kill::{Coverage, ErrorKind, Kill, Outcome, Reason, kill_process_group};

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, as_nobody, asleep_in, current_call, eventually, is_root,
    outcomes, reasons, states, stubborn,
};

/// A tree in a group of its own. The first process leads the group.
fn group(spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.process_group(0);
    Victim::spawn(command)
}

/// Reaps the leader, so that only its group still has its number.
fn reap_leader(victim: &mut Victim) {
    victim.child().wait().unwrap();
    assert_eq!(states(victim.pid()), []);
}

#[test]
fn an_obedient_group_led_by_an_unreaped_child_takes_no_grace() {
    let mut victim = group("{ } { }");
    let report = Kill::graceful()
        .grace(Duration::MAX)
        .groups(&[victim.pid()])
        .unwrap();
    assert_eq!(report.pids(Outcome::Exited), victim.pids());
    assert_eq!(report.coverage(), Coverage::Exact);
    assert_eq!(states(victim.pid()), ['Z']);
    victim.all_gone();
    assert_eq!(victim.child().wait().unwrap().signal(), Some(15));
}

#[test]
fn members_that_outlive_a_reaped_leader_are_killed() {
    for kill in [
        Kill::now().verify_within(PATIENCE),
        Kill::graceful().grace(Duration::from_millis(50)),
    ] {
        let mut victim = group("{ ignore=TERM } { } exit");
        reap_leader(&mut victim);
        let report = kill.groups(&[victim.pid()]).unwrap();
        let pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, victim.others());
        victim.all_gone();
    }
}

#[test]
fn a_stubborn_member_outlasts_its_leader_by_the_grace_alone() {
    const GRACE: Duration = Duration::from_millis(300);
    let mut victim = group("{ ignore=TERM }");
    let report = Kill::graceful()
        .grace(GRACE)
        .groups(&[victim.pid()])
        .unwrap();
    let expected = [
        (victim.pid(), Outcome::Exited),
        (victim.others()[0], Outcome::Killed),
    ];
    assert_eq!(outcomes(&report), expected);
    assert!(report.elapsed() >= GRACE && report.elapsed() < 8 * GRACE);
    victim.all_gone();
}

#[test]
fn ten_groups_share_one_deadline() {
    const GRACE: Duration = Duration::from_millis(300);
    let mut victims: Vec<Victim> = (0..10).map(|_| group("ignore=TERM")).collect();
    let pgids: Vec<u32> = victims.iter().map(Victim::pid).collect();
    let report = Kill::graceful().grace(GRACE).groups(&pgids).unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 10);
    assert!(report.elapsed() >= GRACE && report.elapsed() < 8 * GRACE);
    victims.iter_mut().for_each(Victim::all_gone);
}

#[test]
fn an_empty_group_is_an_empty_report_at_once() {
    let mut victim = group("exit");
    victim.until_zombie();
    // First only a zombie has the number. Then no process has it.
    for _ in 0..2 {
        for kill in [Kill::now().verify_within(PATIENCE), Kill::graceful()] {
            let kill = kill.verify_within(PATIENCE).grace(PATIENCE);
            let report = kill.groups(&[victim.pid()]).unwrap();
            assert!(report.is_empty());
            assert!(report.elapsed() < PATIENCE / 3);
        }
        victim.child().wait().unwrap();
    }
    assert!(
        Kill::now()
            .verify_within(PATIENCE)
            .groups(&[])
            .unwrap()
            .is_empty()
    );
    // The number names a group. A process with that number is not the target if it leads no group.
    let mut victim = group("{ }");
    assert!(kill_process_group(victim.others()[0]).unwrap().is_empty());
    assert!(victim.answers());
}

#[test]
fn one_bad_number_refuses_all_groups() {
    let mut victim = group("{ stop }");
    let own = nix::unistd::getpgrp().as_raw().unsigned_abs();
    let child = victim.others()[0];
    eventually("the stop", || states(child) == ['T']);
    for bad in [0, 1, 1 << 31, u32::MAX, own] {
        for kill in [Kill::now().verify_within(PATIENCE), Kill::graceful()] {
            for pgids in [&[victim.pid(), bad][..], &[bad, victim.pid()], &[bad]] {
                let error = kill.groups(pgids).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused, "{bad}");
            }
        }
    }
    assert_eq!(states(child), ['T']);
    assert!(victim.answers());
}

#[test]
fn who_left_the_group_lives_on() {
    let victim = group("{ setpgid } { }");
    let report = kill_process_group(victim.pid()).unwrap();
    assert_eq!(report.len(), 2);
    let left: Vec<u32> = (victim.pids().into_iter())
        .filter(|&pid| matches!(states(pid)[..], ['S' | 'R']))
        .collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn members_that_are_forked_meanwhile_are_killed() {
    {
        let mut victim = group("{ heir } { heir=stay }");
        let kill = Kill::graceful().grace(Duration::from_secs(1));
        let report = kill.groups(&[victim.pid()]).unwrap();
        assert_eq!([victim.line(), victim.line()], ["heir", "heir"]);
        assert_eq!(report.len(), 5);
        assert_eq!(report.pids(Outcome::Killed).len(), 3);
        victim.all_gone();
    }
}

#[test]
fn members_that_may_not_be_signalled_survive() {
    if !is_root("members_that_may_not_be_signalled_survive") {
        return;
    }
    for kill in [
        Kill::now().verify_within(PATIENCE),
        Kill::graceful().grace(PATIENCE),
    ] {
        let victim = group("{ } { nobody }");
        let begun = Instant::now();
        let kill = kill.verify_within(PATIENCE);
        let error = as_nobody(|| kill.groups(&[victim.pid()]).unwrap_err());
        assert!(begun.elapsed() < PATIENCE / 3);
        assert_eq!(error.report().unwrap().len(), 1);
        assert_eq!(reasons(&error).len(), 2);
        assert_eq!(reasons(&error)[0], (victim.pid(), Reason::NotPermitted));
        assert_eq!(reasons(&error)[1].1, Reason::NotPermitted);
    }
}

#[test]
fn who_is_reaped_at_once_was_killed_all_the_same() {
    if !alone!(who_is_reaped_at_once_was_killed_all_the_same) {
        return;
    }
    // SAFETY: no handler is installed. From now on the kernel reaps the children.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    let leader = group("");
    let pgid = i32::try_from(leader.pid()).unwrap();
    let members: Vec<std::process::Child> = (0..100)
        .map(|_| {
            let mut sleep = std::process::Command::new("sleep");
            sleep.arg("60").process_group(pgid).spawn().unwrap()
        })
        .collect();
    let report = Kill::now()
        .verify_within(PATIENCE)
        .groups(&[leader.pid()])
        .unwrap();
    assert_eq!(report.pids(Outcome::Exited), []);
    assert_eq!(report.pids(Outcome::Killed).len(), 101);
    drop(members);
    // The destructor would wait for a child, but there is none.
    std::mem::forget(leader);
}

/// The leader was reaped. Before Linux 5.12 only a look at /proc then tells that the number is still
/// the group's own. After the grace the first look fails.
#[test]
fn a_group_is_not_forgotten_when_a_look_at_it_fails() {
    let name = "a_group_is_not_forgotten_when_a_look_at_it_fails";
    if !is_root(name) || !alone!(a_group_is_not_forgotten_when_a_look_at_it_fails in OWN_PIDS) {
        return;
    }
    // A socket cannot be opened.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let (counter, none) = ("/proc/sys/kernel/ns_last_pid", None::<&str>);
    let mut victim = group("{ ignore=TERM } exit");
    reap_leader(&mut victim);
    let pgid = victim.pid();
    let (tell, told) = channel();
    let (report, late) = std::thread::scope(|scope| {
        let killing = scope.spawn(|| {
            tell.send(gettid()).unwrap();
            let kill = Kill::graceful().grace(Duration::MAX);
            kill.verify_within(PATIENCE).groups(&[pgid])
        });
        let tid = told.recv().unwrap();
        asleep_in(tid, libc::SYS_ppoll);
        let mut command = stubborn("");
        command.process_group(pgid.try_into().unwrap());
        let late = Victim::spawn(command);
        mount(Some(&socket), counter, none, MsFlags::MS_BIND, none).unwrap();
        victim.let_go();
        eventually("the pause after a failed look", || pauses(tid));
        umount2(counter, MntFlags::MNT_DETACH).unwrap();
        (killing.join().unwrap().unwrap(), late)
    });
    // Since Linux 5.12 the group is known without a look. Then this one is killed before it is listed.
    assert_eq!(states(late.pid()), ['Z']);
    let first = outcomes(&report)[0];
    assert_eq!(first, (victim.others()[0], Outcome::Exited));
}

/// Whether a thread of this program sleeps in ppoll(2) for a limited time.
fn pauses(tid: Pid) -> bool {
    let call = std::io::read_to_string(current_call(tid)).unwrap();
    let words: Vec<&str> = call.split(' ').collect();
    // The third argument is the time. Without a limit it is null.
    words[0] == libc::SYS_ppoll.to_string() && words[3] != "0x0"
}
