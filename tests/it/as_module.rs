//! A copy of `src/` works as a module of another program.

use super::fixture::Victim;

#[allow(unused, reason = "a tool needs a part of it")]
#[path = "../../src/lib.rs"]
mod process_kill;

#[test]
fn a_copy_of_the_source_works_as_a_module() {
    let mut victim = Victim::start("ignore=TERM { }");
    let pids = process_kill::descendant_pids(victim.pid()).unwrap();
    assert_eq!(pids, victim.others());
    let all = [&[victim.pid()], pids.as_slice()].concat();
    let report = process_kill::sigkill_pids_and_verify(&all).unwrap();
    assert_eq!(report.pids(process_kill::Outcome::Killed), all);
    victim.all_gone();
}
