//! Killing by pattern, against processes that start each other again.

use std::process::Command;
use std::time::{Duration, Instant};

use process_kill::{ErrorKind, Kill, Outcome};

use super::fixture::{PATIENCE, Victim, alone, is_root, run_alone, states, stubborn};

/// An argument that no other process has.
fn mark(name: &str) -> String {
    format!("{name}-{}-of-process-kill", std::process::id())
}

fn marked(spec: &str, mark: &str) -> Victim {
    let mut command = stubborn(spec);
    command.arg(mark);
    Victim::spawn(command)
}

#[test]
fn pairs_that_start_each_other_lose() {
    let mark = mark("pair");
    for run in 0..20 {
        let mut victim = marked("pair", &mark);
        victim.line();
        let grace = Duration::from_millis(if run % 4 == 0 { 20 } else { 0 });
        let report = Kill::now()
            .verify_within(PATIENCE)
            .grace(grace)
            .matching(&mark)
            .unwrap();
        assert!(report.len() >= 2);
        victim.all_gone();
        assert_eq!(process_kill::pids_matching(&mark).unwrap(), []);
    }
}

#[test]
fn descendants_that_do_not_match_live_on() {
    let mark = mark("parent");
    // The children are started without this argument.
    let mut victim = marked("{ }", &mark);
    let report = Kill::graceful().grace(PATIENCE).matching(&mark).unwrap();
    assert_eq!(report.pids(Outcome::Exited), [victim.pid()]);
    assert!(victim.answers());
    assert!(matches!(states(victim.others()[0])[..], ['S' | 'R']));
}

#[test]
fn neither_the_caller_nor_its_ancestors_are_killed() {
    // The shell and timeout start the test anew. Both have the mark in their command lines.
    const MARK: &str = "ancestor-of-process-kill-test";
    if !alone!(
        neither_the_caller_nor_its_ancestors_are_killed,
        "sh",
        "-c",
        ": ancestor-of-process-kill-test; \"$@\"; exit $?",
        "sh"
    ) {
        return;
    }
    let parent = std::os::unix::process::parent_id();
    assert!(process_kill::pids_matching(MARK).unwrap().contains(&parent));
    let mut victim = marked("", MARK);
    let report = Kill::graceful().grace(PATIENCE).matching(MARK).unwrap();
    assert_eq!(report.pids(Outcome::Exited), [victim.pid()]);
    victim.all_gone();
    assert!(matches!(states(parent)[..], ['S']));
    assert!(
        Kill::now()
            .verify_within(PATIENCE)
            .matching(MARK)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn init_is_spared_by_who_came_from_outside() {
    const TEST: &str = "respawn::init_is_spared_by_who_came_from_outside";
    const MARK: &str = "init-of-process-kill-test";
    if std::env::var_os("PROCESS_KILL_TEST_ALONE").is_some() {
        // A process that enters a PID namespace has no parent there.
        assert_eq!(std::os::unix::process::parent_id(), 0);
        assert_eq!(process_kill::pids_matching(MARK).unwrap(), [1]);
        assert!(Kill::graceful().matching(MARK).unwrap().is_empty());
        return;
    }
    if !is_root(TEST) {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args([env!("CARGO_BIN_EXE_stubborn"), MARK]);
    // The kernel spares an init that has no handler for the signal.
    command.env("STUBBORN", "heir=stay");
    let mut victim = Victim::spawn(command);
    let init = process_kill::descendant_pids(victim.pid()).unwrap()[0].to_string();
    run_alone(TEST, &["nsenter", "--target", &init, "--pid", "--mount"]);
    assert!(victim.answers());
}

#[test]
fn a_bad_pattern_kills_nobody() {
    let mark = mark("bad");
    let mut victim = marked("", &mark);
    for pattern in ["", &format!("({mark}"), &format!("{mark}["), "a\0b"] {
        for kill in [Kill::now().verify_within(PATIENCE), Kill::graceful()] {
            let error = kill.matching(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pattern, "{pattern}");
        }
    }
    assert!(victim.answers());
}

#[test]
fn no_match_is_an_empty_report_at_once() {
    let begun = Instant::now();
    for kill in [Kill::now().verify_within(PATIENCE), Kill::graceful()] {
        let report = kill.matching(&mark("[n]obody")).unwrap();
        assert!(report.is_empty());
    }
    assert!(begun.elapsed() < PATIENCE / 3);
}
