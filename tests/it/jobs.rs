//! Jobs: groups, and every descendant of their members.

use nix::unistd::getsid;

use super::aim::{grandparent, group, patricide, raw, refusal, sorted, ways};
use super::fixture::{OWN_PIDS, alone, is_root, patient};
use super::tree::unmoved;

#[test]
fn a_job_is_its_members_and_all_their_descendants() {
    const SPEC: &str = "{ setpgid { } } { setsid { setpgid } { { setpgid } exit } }";
    for kill in ways() {
        let mut jobs = [SPEC, "{ { setsid } }"].map(group);
        // It is in the same session, in a group of its own.
        let mut stranger = group("{ }");
        let [a, b] = [jobs[0].pid(), jobs[1].pid()];
        assert_eq!(getsid(Some(raw(a))), getsid(Some(raw(stranger.pid()))));
        let report = unmoved(&stranger.pids(), || kill.jobs(&[a, b, a]).unwrap());
        let gone: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        for job in &mut jobs {
            job.all_gone();
        }
        assert!(gone.contains(&a) && gone.contains(&b));
        assert!(gone.iter().all(|pid| !stranger.pids().contains(pid)));
        stranger.let_go();
        stranger.all_gone();
    }
}

#[test]
fn a_job_lives_on_without_its_leader_and_is_killed() {
    for kill in ways() {
        let mut job = group("{ { setsid { } } } { setpgid } exit");
        job.child().wait().unwrap();
        let pgid = job.pid();
        // A child of the leader that has left the group is not a descendant of any remaining
        // member.
        let left = job.others();
        let group_of = |pid: u32| nix::unistd::getpgid(Some(raw(pid))).unwrap().as_raw();
        let outside = |pid: &u32| {
            let is_orphan = grandparent(*pid) == 1 || !job.pids().contains(&grandparent(*pid));
            is_orphan && group_of(*pid).unsigned_abs() != pgid
        };
        let orphan: Vec<u32> = left.iter().copied().filter(|pid| outside(pid)).collect();
        assert_eq!(orphan.len(), 1);
        let members = sorted(left.into_iter().filter(|pid| *pid != orphan[0]).collect());
        let report = unmoved(&orphan, || kill.jobs(&[pgid]).unwrap());
        let gone = sorted(report.iter().map(|(pid, _)| pid).collect());
        assert_eq!(gone, members);
        // No process is left in the group.
        assert!(kill.jobs(&[pgid]).unwrap().is_empty());
        job.let_go();
        job.all_gone();
    }
}

#[test]
fn a_bad_number_refuses_all_jobs() {
    let victim = group("");
    for bad in [0, 1, u32::MAX, i32::MAX.unsigned_abs() + 1] {
        for kill in ways() {
            let pid = victim.pid();
            let error = refusal(&[pid], || kill.jobs(&[pid, bad]));
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
    }
}

/// The group does not contain the caller, but its job does.
#[test]
fn a_job_that_holds_the_caller_is_refused_whatever_is_allowed() {
    if !is_root("a_job_that_holds_the_caller_is_refused_whatever_is_allowed")
        || !alone!(a_job_that_holds_the_caller_is_refused_whatever_is_allowed in OWN_PIDS)
    {
        return;
    }
    patricide(|parent, kill| {
        refusal(&[parent], || kill.jobs(&[parent]));
        patient().even_ancestors().pids(&[parent]).unwrap();
    });
}
