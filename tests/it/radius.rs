//! The blast radius: if a search finds more than expected, nothing is sent.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use process_kill::{
    Candidate, ErrorKind, Kill, Outcome, ProcessId, Reason, Report, Survivor, processes_where,
};

use super::aim::{at, group, naming, of, sorted, ways};
use super::cgroup::Cgroup;
use super::fixture::{
    OWN_PIDS, Victim, alone, eventually, is_root, outcomes, patient, reasons, runs, states,
    stubborn,
};
use super::tree::unmoved;

/// What `kill` does to these processes, which are all that it finds. With room for one fewer, it
/// does nothing at all.
fn hits_no_more_than(found: &[u32], kill: impl Fn(&Kill) -> process_kill::Result<Report> + Sync) {
    let found = sorted(found.to_vec());
    let expected: Vec<_> = (found.iter())
        .map(|&pid| (pid, Reason::StillRunning))
        .collect();
    for most in [found.len() - 1, 0] {
        for how in ways() {
            let how = how.at_most(most);
            let error = unmoved(&found, || kill(&how).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::TooMany, "{error}");
            let mut survivors = reasons(&error);
            survivors.sort_unstable_by_key(|&(pid, _)| pid);
            assert_eq!(survivors, expected);
            assert!(error.report().unwrap().is_empty());
            let text = error.to_string();
            let count = format!("found {} processes, at most {most} expected", found.len());
            assert!(text.contains(&count), "{text}");
            assert!(std::error::Error::source(&error).is_none());
        }
    }
    // None of them got a signal that would have ended it.
    let report = kill(&patient().at_most(found.len())).unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), []);
    assert_eq!(sorted(report.iter().map(|(pid, _)| pid).collect()), found);
}

#[test]
fn more_than_expected_is_too_many() {
    let family = Victim::start("{ } { }");
    hits_no_more_than(&family.pids(), |kill| kill.pids(&family.pids()));
    let family = Victim::start("{ } { }");
    let ids: Vec<ProcessId> = family.pids().into_iter().map(of).collect();
    hits_no_more_than(&family.pids(), |kill| kill.processes(&ids));
    let family = Victim::start("{ { } } { setsid }");
    hits_no_more_than(&family.pids(), |kill| kill.tree(family.pid()));
    let families = ["{ }", "{ { } }"].map(Victim::start);
    let ids = [0, 1].map(|at| of(families[at].pid()));
    let all = families.each_ref().map(Victim::pids).concat();
    hits_no_more_than(&all, |kill| kill.trees(&ids));
    let families = ["{ }", "{ { } }"].map(group);
    let pgids = [0, 1].map(|at| families[at].pid());
    let all = families.each_ref().map(Victim::pids).concat();
    hits_no_more_than(&all, |kill| kill.groups(&pgids));
    let families = ["{ setpgid { } }", "{ setsid { } }"].map(group);
    let pgids = [0, 1].map(|at| families[at].pid());
    let all = families.each_ref().map(Victim::pids).concat();
    hits_no_more_than(&all, |kill| kill.jobs(&pgids));
}

#[test]
fn more_than_expected_of_a_search_is_too_many() {
    const MARK: &str = "too-many-of-process-kill-test";
    if !is_root("more_than_expected_of_a_search_is_too_many")
        || !alone!(more_than_expected_of_a_search_is_too_many in OWN_PIDS)
    {
        return;
    }
    let victims = [MARK; 3].map(naming);
    let all = victims.each_ref().map(Victim::pid);
    hits_no_more_than(&all, |kill| kill.matching(MARK));
    let victims = [MARK; 3].map(naming);
    let all = victims.each_ref().map(Victim::pid);
    hits_no_more_than(&all, |kill| kill.all_where(|p| all.contains(&p.pid())));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    // Descendants count too, in whatever directory they work.
    let family = at(&dir, "{ chdir=/ { } }");
    hits_no_more_than(&family.pids(), |kill| kill.directory(&dir));
    let mut server = Victim::start("listen crowd=2");
    let port = server.ready[0].1.unwrap();
    let line = server.line();
    let crowd = line.split(' ').skip(1).map(|pid| pid.parse().unwrap());
    let all: Vec<u32> = crowd.chain([server.pid()]).collect();
    hits_no_more_than(&all, |kill| kill.port(port));
    drop((victims, family, server));
    let families = ["{ }", "{ { setsid } }"].map(Victim::start);
    let all = families.each_ref().map(Victim::pids).concat();
    hits_no_more_than(&all, Kill::children);
}

#[test]
fn more_than_expected_in_a_cgroup_is_too_many() {
    if !is_root("more_than_expected_in_a_cgroup_is_too_many") {
        return;
    }
    let Some(outer) = Cgroup::new("too-many") else {
        return;
    };
    let inner = outer.below("inner");
    let family = Victim::start("{ } { }");
    outer.take(&[family.pid()]);
    inner.take(&family.others());
    hits_no_more_than(&family.pids(), |kill| kill.cgroup(outer.dir()));
}

#[test]
fn the_gone_do_not_count_against_the_limit() {
    let mut dead = Victim::start("exit");
    dead.until_zombie();
    let live = [""; 2].map(Victim::start);
    let [first, last] = [live[0].pid(), live[1].pid()];
    let named = [first, dead.pid(), last];
    let ids = named.map(of);
    let error = patient().at_most(1).pids(&named).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooMany);
    assert_eq!(
        reasons(&error),
        [first, last].map(|pid| (pid, Reason::StillRunning))
    );
    let report = patient().at_most(2).processes(&ids).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            (first, Outcome::Killed),
            (dead.pid(), Outcome::AlreadyGone),
            (last, Outcome::Killed),
        ]
    );
    // All are zombies now.
    assert_eq!(patient().at_most(0).pids(&named).unwrap().len(), 3);
    assert_eq!(patient().at_most(0).trees(&ids).unwrap().len(), 3);
    let family = Victim::start("{ exit } { }");
    eventually("one is a zombie", || {
        let others = family.others();
        others.iter().any(|&pid| states(pid) == ['Z'])
    });
    let report = patient().at_most(2).tree(family.pid()).unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 2);
    dead.all_gone();
}

/// A link of the chain may be gone before it can be held. Then none is counted.
#[test]
fn a_dry_run_sends_nothing_to_a_chain_of_forks() {
    if !alone!(a_dry_run_sends_nothing_to_a_chain_of_forks in OWN_PIDS) {
        return;
    }
    let ways: [fn(&Kill, u32) -> process_kill::Result<Report>; 3] = [
        |kill, root| kill.groups(&[root]),
        |kill, root| kill.jobs(&[root]),
        |kill, root| kill.tree(root),
    ];
    for kill in ways {
        for how in [patient(), Kill::graceful()] {
            for _ in 0..runs(100) {
                let mut chain = stubborn("leapfrog=stay");
                chain.process_group(0);
                let mut chain = Victim::spawn(chain);
                match kill(&how.clone().at_most(0), chain.pid()) {
                    Ok(report) => {
                        assert_eq!(report.pids(Outcome::Killed), []);
                        assert!(!chain.is_all_gone(Duration::from_millis(50)));
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::TooMany, "{e}"),
                }
                chain.let_go();
                chain.all_gone();
            }
        }
    }
}

/// A process that was there from the start, and begins to match after the matches were counted.
#[test]
fn one_that_matches_later_is_not_hit_beyond_the_limit() {
    let name = "one_that_matches_later_is_not_hit_beyond_the_limit";
    if !is_root(name) || !alone!(one_that_matches_later_is_not_hit_beyond_the_limit in OWN_PIDS) {
        return;
    }
    for (is_graceful, how) in [(false, patient()), (true, Kill::graceful())] {
        let (mut first, mut later) = (Victim::start(""), Victim::start(""));
        eventually("older than the call", || {
            let is_old = |p: &Candidate<'_>| p.age().unwrap() > Duration::from_millis(100);
            let found = processes_where(|p| p.pid() == later.pid() && is_old(p));
            !found.unwrap().is_empty()
        });
        for most in [0, 1] {
            let mut scans = 0;
            let error = unmoved(&[later.pid()], || {
                how.clone().at_most(most).all_where(|candidate| {
                    scans += u32::from(candidate.pid() == later.pid());
                    // The first scan finds, the second one counts.
                    let is_later = candidate.pid() == later.pid() && scans > 2;
                    is_later || (most == 1 && candidate.pid() == first.pid())
                })
            });
            match most {
                0 if scans <= 2 => assert!(error.unwrap().is_empty()),
                0 => assert_eq!(error.unwrap_err().kind(), ErrorKind::TooMany),
                // A graceful kill searches once more before it sends anything.
                _ if is_graceful => assert_eq!(error.unwrap_err().kind(), ErrorKind::TooMany),
                _ => {
                    let error = error.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Unproven);
                    let left: Vec<u32> = error.left_alone().iter().map(Survivor::pid).collect();
                    assert_eq!(left, [later.pid()]);
                }
            }
        }
        assert!(later.answers());
        first.let_go();
        first.all_gone();
    }
}

/// A process that was there from the start, and listens when the first one has ended.
#[test]
fn one_that_listens_later_is_not_hit_beyond_the_limit() {
    if !alone!(one_that_listens_later_is_not_hit_beyond_the_limit in OWN_PIDS) {
        return;
    }
    let mut taken_over = 0;
    for _ in 0..runs(10) {
        let server = Victim::start("listen");
        let port = server.ready[0].1.unwrap();
        let mut standby = Victim::start(&format!("standby={port}"));
        let born = of(standby.pid()).start_time();
        eventually("older than the call", || {
            of(Victim::start("").pid()).start_time() > born + 1
        });
        let killed = unmoved(&[standby.pid()], || Kill::graceful().at_most(1).port(port));
        match killed {
            Ok(report) => assert_eq!(report.pids(Outcome::Exited), [server.pid()]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unproven, "{error}");
                let left: Vec<u32> = error.left_alone().iter().map(Survivor::pid).collect();
                assert_eq!(left, [standby.pid()]);
                taken_over += 1;
            }
        }
        assert!(standby.answers());
    }
    assert!(taken_over > 0, "the port was always free for a moment");
}
