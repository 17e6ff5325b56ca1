//! Killing by pattern, against those that start each other again.

use std::time::{Duration, Instant};

use process_kill::{ErrorKind, Kill, Outcome};

use super::fixture::{PATIENCE, Victim, alone, states, stubborn};

/// An argument that nobody else has.
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
        let report = Kill::now().grace(grace).matching(&mark).unwrap();
        assert!(report.len() >= 2);
        victim.all_gone();
        assert_eq!(process_kill::pids_matching(&mark).unwrap(), []);
    }
}

#[test]
fn descendants_that_do_not_match_live_on() {
    let mark = mark("parent");
    // Children are started without the argument.
    let mut victim = marked("{ }", &mark);
    let report = Kill::graceful().grace(PATIENCE).matching(&mark).unwrap();
    assert_eq!(report.pids(Outcome::Exited), [victim.pid()]);
    assert!(victim.answers());
    assert!(matches!(states(victim.others()[0])[..], ['S' | 'R']));
}

#[test]
fn neither_the_caller_nor_its_ancestors_are_killed() {
    // The mark is in the command line of the shell, and of timeout, that start the test anew.
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
    assert!(Kill::now().matching(MARK).unwrap().is_empty());
}

#[test]
fn a_bad_pattern_kills_nobody() {
    let mark = mark("bad");
    let mut victim = marked("", &mark);
    for pattern in ["", &format!("({mark}"), &format!("{mark}["), "a\0b"] {
        for kill in [Kill::now(), Kill::graceful()] {
            let error = kill.matching(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pattern, "{pattern}");
        }
    }
    assert!(victim.answers());
}

#[test]
fn no_match_is_an_empty_report_at_once() {
    let begun = Instant::now();
    for kill in [Kill::now(), Kill::graceful()] {
        let report = kill.matching(&mark("[n]obody")).unwrap();
        assert!(report.is_empty());
    }
    assert!(begun.elapsed() < PATIENCE / 3);
}
