//! Groups, children, patterns and cgroups.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use process_kill::child::adopt_orphans;
use process_kill::{Coverage, ErrorKind, Kill, Outcome, kill_all_children, kill_process_group};

use super::fixture::{Victim, alone, stubborn};

#[test]
fn an_obedient_group_led_by_an_unreaped_child_takes_no_grace() {
    let mut command = stubborn("{ } { }");
    command.process_group(0);
    let mut victim = Victim::spawn(command);
    let report = kill_process_group(victim.pid()).unwrap();
    assert_eq!(report.pids(Outcome::Exited), victim.pids());
    assert!(
        report.elapsed() < Duration::from_secs(2),
        "{:?}",
        report.elapsed()
    );
    victim.all_gone();
}

#[test]
fn children_of_a_subreaper_are_killed_whatever_they_do() {
    if !alone!(
        children_of_a_subreaper_are_killed_whatever_they_do,
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
    adopt_orphans().unwrap();
    for _ in 0..100 {
        let mut victim = Victim::start("{ leapfrog } { setsid { exit } }");
        let report = Kill::now().children().unwrap();
        assert_eq!(report.coverage(), Coverage::Exact);
        victim.all_gone();
        reap_all();
    }
}

/// What whoever adopts orphans has to do.
fn reap_all() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

#[test]
fn pairs_that_start_each_other_lose() {
    let mark = format!("pair-{}", std::process::id());
    let mut command = stubborn("pair");
    command.arg(&mark);
    let mut victim = Victim::spawn(command);
    victim.line();
    Kill::now().matching(&mark).unwrap();
    victim.all_gone();
}

#[test]
fn all_children_of_a_process_are_killed() {
    if !alone!(all_children_of_a_process_are_killed) {
        return;
    }
    let mut victim = Victim::start("{ setsid { } } { }");
    let report = kill_all_children().unwrap();
    assert_eq!(report.len(), 4);
    assert_eq!(report.coverage(), Coverage::BestEffort);
    victim.all_gone();
}

#[test]
fn a_cgroup_is_killed_until_it_is_not_populated() {
    let root = std::path::Path::new("/sys/fs/cgroup/unified");
    let dir = root.join(format!("process-kill-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let mut victim = Victim::start("{ } { ignore=TERM }");
    for pid in victim.pids() {
        std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let report = Kill::graceful()
        .grace(Duration::from_millis(200))
        .cgroup(&dir)
        .unwrap();
    assert_eq!(report.len(), 3);
    assert_eq!(report.pids(Outcome::Killed).len(), 1);
    victim.all_gone();
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(
        Kill::now().cgroup(root).unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert_eq!(
        Kill::now().cgroup("/tmp".as_ref()).unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert_eq!(
        Kill::now().cgroup(&dir).unwrap_err().kind(),
        ErrorKind::Refused
    );
}
