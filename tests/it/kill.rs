//! Kill by pid, and verify.

use std::os::unix::process::ExitStatusExt;

use process_kill::{Outcome, sigkill_pids_and_verify};

use super::fixture::Victim;

#[test]
fn a_killed_child_is_gone_and_keeps_its_status() {
    let mut victim = Victim::start("ignore=TERM ignore=HUP");
    let report = sigkill_pids_and_verify(&[victim.pid()]).unwrap();
    assert_eq!(
        report.iter().collect::<Vec<_>>(),
        [(victim.pid(), Outcome::Killed)]
    );
    victim.all_gone();
    assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
}

#[test]
fn orphans_are_killed_too() {
    let mut victim = Victim::start("{ ignore=TERM } { setsid { } } thread{ threads=3 }");
    let all = victim.pids();
    sigkill_pids_and_verify(&[victim.pid()]).unwrap();
    let report = sigkill_pids_and_verify(&all).unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), [victim.pid()]);
    assert_eq!(report.pids(Outcome::Killed), victim.others());
    victim.all_gone();
}
