//! Descendants: all of them, in order, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, id};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use process_kill::{
    ErrorKind, ProcessId, descendant_pids, descendants, pids_matching, pids_with_cwd_under,
    processes_where,
};

use super::fixture::{OWN_PIDS, SLOWNESS, Victim, alone, eventually, is_root, states, stubborn};

/// Fields 4 and 20 of /proc/PID/stat: parent and number of threads.
fn parent_and_threads(pid: u32) -> Option<(u32, usize)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&b| b == b')')? + 2;
    let rest = std::str::from_utf8(&stat[end..]).ok()?;
    let mut fields = rest.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(15)?.parse().ok()?))
}

/// The processes that have this parent now, found by a scan of all processes.
fn children_by_scan(parent: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_and_threads(pid).is_some_and(|(of, _)| of == parent))
        .collect()
}

/// What `pgrep -P` says of a tree that does not change. It is asked again for each process that it
/// finds.
fn pgrep(root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let output = Command::new("pgrep")
            .args(["-P", &parent.to_string()])
            .output()
            .unwrap();
        for pid in String::from_utf8(output.stdout).unwrap().lines() {
            let pid = pid.parse().unwrap();
            assert!(found.insert(pid));
            parents.push(pid);
        }
    }
    found
}

/// Each descendant once, after its parent and without the root. Then the pids, ascending.
fn in_order(root: u32, found: &[u32]) -> Vec<u32> {
    let mut before = BTreeSet::from([root]);
    for &pid in found {
        let (parent, _) = parent_and_threads(pid).unwrap();
        assert!(before.contains(&parent), "{pid} before {parent}: {found:?}");
        assert!(before.insert(pid), "{pid} twice: {found:?}");
    }
    before.remove(&root);
    before.into_iter().collect()
}

#[test]
fn all_generations_are_found_parents_first() {
    let victim = Victim::start("{ { { } { } } } { setsid { setpgid } } thread{ { } }");
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
    assert_eq!(pgrep(victim.pid()), BTreeSet::from_iter(found));
}

#[test]
fn identities_are_those_of_the_pids() {
    let victim = Victim::start("{ { } } { } thread{ { } }");
    let pids = descendant_pids(victim.pid()).unwrap();
    let ids = descendants(victim.pid()).unwrap();
    assert_eq!(pids.len(), 5);
    assert_eq!(ids.iter().map(ProcessId::pid).collect::<Vec<_>>(), pids);
    for id in ids {
        assert_eq!(ProcessId::of(id.pid()).unwrap(), Some(id));
    }
}

#[test]
fn zombies_are_descendants() {
    let victim = Victim::start("{ exit } { }");
    eventually("one of two exits", || {
        victim.others().iter().any(|&pid| states(pid) == ['Z'])
    });
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
    assert_eq!(descendants(victim.pid()).unwrap().len(), 2);
}

#[test]
fn children_of_every_thread_are_found() {
    let victim = Victim::start("thread{ } { thread{ thread{ } } } thread{ { } } threads=20");
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
}

#[test]
fn children_of_a_process_whose_leader_has_exited_are_found() {
    let victim = Victim::start("{ } thread{ { thread{ } { } leader-exits } } leader-exits");
    eventually("two leaders exit", || {
        let exited = |&pid: &u32| states(pid).first() == Some(&'Z');
        victim.pids().iter().filter(|pid| exited(pid)).count() == 2
    });
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
}

#[test]
fn names_may_hold_any_bytes() {
    // `) R 1 (`, a newline, bytes that are not UTF-8, a blank, and none at all.
    let spec = "name-hex=2920522031202820 { name-hex=0a { name-hex=fffe29 { name-hex=20 { name-hex= { name-hex=29 } } } } }";
    let victim = Victim::start(spec);
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
    assert_eq!(found.len(), 5);
    assert_eq!(descendants(victim.pid()).unwrap().len(), 5);
}

#[test]
fn a_chain_of_hundreds_is_found_from_top_to_bottom() {
    const LEVELS: usize = 400;
    let victim = Victim::start(&format!("deep={LEVELS}"));
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(found.len(), LEVELS);
    let mut above = victim.pid();
    for pid in found {
        assert_eq!(parent_and_threads(pid).unwrap().0, above);
        above = pid;
    }
}

#[test]
fn hundreds_of_children_are_found() {
    const CHILDREN: usize = 400;
    let victim = Victim::start(&format!("wide={CHILDREN}"));
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(found.len(), CHILDREN);
    let found = BTreeSet::from_iter(found);
    assert_eq!(found, children_by_scan(victim.pid()));
}

/// If a process has more threads than there are processes, its threads are not asked one by one for
/// their children.
#[test]
fn a_process_of_many_threads_has_all_its_descendants() {
    const THREADS: usize = 600;
    let victim = Victim::start(&format!("{{ {{ }} }} thread{{ }} threads={THREADS} {{ }}"));
    let (_, threads) = parent_and_threads(victim.pid()).unwrap();
    assert!(threads > THREADS);
    let found = descendant_pids(victim.pid()).unwrap();
    assert_eq!(in_order(victim.pid(), &found), victim.others());
    assert_eq!(pgrep(victim.pid()), BTreeSet::from_iter(found));
}

#[test]
fn lasting_children_are_found_while_siblings_are_born_and_die() {
    let victim = Victim::start("{ { } } thread{ } { } churn=2");
    for _ in 0..300 {
        let found = descendant_pids(victim.pid()).unwrap();
        for pid in victim.others() {
            assert!(found.contains(&pid), "{pid} is not in {found:?}");
        }
    }
}

/// The kernel can leave out a living child if an older child ends while the list is read. Here the
/// oldest child ends again and again.
#[test]
fn who_lives_through_the_call_is_found_while_older_siblings_die() {
    let victim = Victim::start("{ { } } { } shed=12");
    let lasting = victim.others();
    let mut lived_through = 0;
    for _ in 0..400 {
        let before = started(victim.pid());
        let found = descendant_pids(victim.pid()).unwrap();
        let after = started(victim.pid());
        for (pid, start) in &before {
            if after.get(pid) == Some(start) {
                assert!(found.contains(pid), "{pid} is not in {found:?}");
                lived_through += usize::from(!lasting.contains(pid));
            }
        }
        for pid in &lasting {
            assert!(found.contains(pid), "{pid} is not in {found:?}");
        }
    }
    assert!(lived_through > 0, "no call was short enough");
}

/// While a thread takes its leader's place in execve(2), /proc shows a dead leader. For a moment it
/// also shows a task that belongs to no process.
#[test]
fn who_executes_a_program_by_a_thread_is_no_less_there() {
    let victim = Victim::start("{ { } execs }");
    let root = victim.pid();
    let ids = descendants(root).unwrap();
    assert_eq!(ids.len(), 2);
    for round in 0..2000 {
        assert_eq!(descendants(root).unwrap(), ids, "round {round}");
    }
}

/// One scan waits no longer than 50 ms in all for processes in execve(2). On a busy machine that can be
/// too short, and another scan finds them.
fn are_found(pids: &BTreeSet<u32>, round: u32, find: impl Fn() -> Vec<u32>) {
    const SCANS: u32 = 5 * SLOWNESS;
    let mut found = BTreeSet::new();
    for _ in 0..SCANS {
        found = BTreeSet::from_iter(find());
        if found == *pids {
            return;
        }
    }
    assert_eq!(found, *pids, "round {round}");
}

#[test]
fn who_executes_a_program_by_a_thread_keeps_its_command_line() {
    if !is_root("who_executes_a_program_by_a_thread_keeps_its_command_line")
        || !alone!(who_executes_a_program_by_a_thread_keeps_its_command_line in OWN_PIDS)
    {
        return;
    }
    let mark = format!("executes-{}-", id());
    let start = |number: u32| {
        let mut command = stubborn("execs");
        command.arg(format!("{mark}{number}"));
        Victim::spawn(command)
    };
    let victims: Vec<Victim> = (0..6).map(start).collect();
    let pids: BTreeSet<u32> = victims.iter().map(Victim::pid).collect();
    for round in 0..2500 / SLOWNESS {
        // In a new /proc, the kernel looks up every process again. It does not always find the
        // process that will last.
        let none: Option<&str> = None;
        mount(none, "/proc", Some("proc"), MsFlags::empty(), none).unwrap();
        are_found(&pids, round, || pids_matching(&mark).unwrap());
        let here = processes_where(|p| p.parent() == id() && p.uid().is_ok()).unwrap();
        let here = BTreeSet::from_iter(here.iter().map(ProcessId::pid));
        assert_eq!(here, pids, "round {round}");
        umount2("/proc", MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn who_executes_a_program_by_a_thread_keeps_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let start = |_| {
        let mut command = stubborn("execs");
        command.current_dir(dir.path());
        Victim::spawn(command)
    };
    let victims: Vec<Victim> = (0..6).map(start).collect();
    let pids: BTreeSet<u32> = victims.iter().map(Victim::pid).collect();
    for round in 0..200 {
        are_found(&pids, round, || pids_with_cwd_under(dir.path()).unwrap());
    }
}

/// Children and their identities, as far as one look shows them. A process that is in two looks
/// lived through the time between them.
fn started(parent: u32) -> BTreeMap<u32, ProcessId> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let pids = list.split_whitespace().map(|pid| pid.parse().unwrap());
    pids.filter_map(|pid| Some((pid, ProcessId::of(pid).unwrap()?)))
        .collect()
}

#[test]
fn the_dead_have_no_descendants() {
    let mut victim = Victim::start("{ { } } exit");
    eventually("the root exits", || states(victim.pid()) == ['Z']);
    let zombie = victim.pid();
    assert_eq!(descendant_pids(zombie).unwrap(), []);
    assert_eq!(descendants(zombie).unwrap(), []);
    victim.child().wait().unwrap();
    // No process has this number until all other numbers have been used.
    assert_eq!(descendant_pids(zombie).unwrap(), []);
    assert_eq!(descendants(zombie).unwrap(), []);
    // Above the limit of all kernels, so no process has this number.
    assert_eq!(descendant_pids(i32::MAX.unsigned_abs()).unwrap(), []);
}

#[test]
fn a_thread_has_no_descendants() {
    let victim = Victim::start("threads=3 { } thread{ }");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let tids: Vec<u32> = tids.filter(|&tid| tid != victim.pid()).collect();
    assert_eq!(tids.len(), 4);
    for tid in tids {
        assert_eq!(descendant_pids(tid).unwrap(), []);
        assert_eq!(descendants(tid).unwrap(), []);
    }
}

#[test]
fn numbers_that_name_no_process_are_refused() {
    for number in [0, i32::MAX.unsigned_abs() + 1, u32::MAX] {
        let refused = descendant_pids(number).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        let refused = descendants(number).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
    }
}
