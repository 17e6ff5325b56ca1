//! Several trees by identity, and what happens when a number is used again.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{getpgid, getsid, pipe2};
use process_kill::child::{CommandExt as _, Group, Limits, Registry, adopt_orphans};
use process_kill::{ErrorKind, Kill, Outcome, ProcessId, Reason, Report, wait_until_gone};

use super::aim::{grandchild, group, of, raw, sorted, ways};
use super::child::{Crew, is_reaped};
use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, eventually, is_root, outcomes, patient, reasons, release,
    states, stubborn, without_pidfds,
};
use super::identity::of_another_boot;
use super::tree::unmoved;

#[test]
fn several_trees_share_one_deadline() {
    const GRACE: Duration = Duration::from_millis(400);
    let mut families = [(); 5].map(|()| Victim::start("ignore=TERM { setsid ignore=TERM { } }"));
    let ids = families.each_ref().map(|family| of(family.pid()));
    let kill = Kill::graceful().grace(GRACE).verify_within(PATIENCE);
    let report = kill.trees(&ids).unwrap();
    let elapsed = report.elapsed();
    assert!(elapsed >= GRACE && elapsed < 4 * GRACE, "{elapsed:?}");
    let all = families.each_ref().map(Victim::pids).concat();
    assert_eq!(sorted(report.iter().map(|(p, _)| p).collect()), sorted(all));
    // The roots come in the order in which they were named.
    let roots: Vec<u32> = report.iter().map(|(pid, _)| pid).take(5).collect();
    assert_eq!(roots, ids.map(|id| id.pid()));
    assert_eq!(report.pids(Outcome::Killed).len(), 10);
    for family in &mut families {
        family.all_gone();
    }
}

#[test]
fn a_root_that_is_gone_is_no_error() {
    for kill in ways() {
        let mut reaped = Victim::start("");
        let zombie = Victim::start("exit");
        let mut family = Victim::start("{ { } }");
        let ids = [&reaped, &family, &zombie].map(|victim| of(victim.pid()));
        reaped.child().kill().unwrap();
        reaped.child().wait().unwrap();
        zombie.until_zombie();
        let report = kill.trees(&[ids[0], ids[1], ids[2], ids[1]]).unwrap();
        let first: Vec<u32> = report.iter().map(|(pid, _)| pid).take(3).collect();
        assert_eq!(first, ids.map(|id| id.pid()));
        let gone = [reaped.pid(), zombie.pid()];
        assert_eq!(report.pids(Outcome::AlreadyGone), gone);
        assert_eq!(report.len(), 5);
        family.all_gone();
        let report = kill.trees(&ids).unwrap();
        assert_eq!(report.pids(Outcome::AlreadyGone), ids.map(|id| id.pid()));
        assert!(kill.trees(&[]).unwrap().is_empty());
    }
}

/// A root that is named twice, or is below another one, is one target.
#[test]
fn trees_may_hold_each_other() {
    for kill in ways() {
        let mut family = Victim::start("{ { } }");
        let ids: Vec<ProcessId> = family.pids().into_iter().rev().map(of).collect();
        let named = [ids.clone(), ids.clone()].concat();
        let report = kill.trees(&named).unwrap();
        let gone: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(gone, ids.iter().map(ProcessId::pid).collect::<Vec<_>>());
        family.all_gone();
    }
}

/// A pid file may hold both, in any order.
#[test]
fn an_old_identity_of_the_pid_does_not_hide_the_root() {
    for is_first in [true, false] {
        let mut family = Victim::start("{ }");
        let id = of(family.pid());
        let old = of_another_boot(id);
        let roots = if is_first { [old, id] } else { [id, old] };
        let report = patient().trees(&roots).unwrap();
        assert_eq!(report.pids(Outcome::AlreadyGone), [family.pid()]);
        assert_eq!(sorted(report.pids(Outcome::Killed)), sorted(family.pids()));
        family.all_gone();
    }
}

/// Starts a tree in a PID namespace in which nothing else is started. The first process of the tree
/// is a child of the test, and gets the pid of a process that was reaped.
fn start_as(pid: u32, mut command: Command) -> Victim {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    command.env_remove("PROCESS_KILL_TEST_ALONE");
    let victim = Victim::spawn(command);
    assert_eq!(victim.pid(), pid);
    victim
}

/// The processes that live, after the given number of them have exited.
fn living(family: &Victim, exited: usize) -> Vec<u32> {
    let mut live = family.pids();
    let all = live.len();
    eventually("some exit", || {
        live.retain(|&pid| !matches!(states(pid)[..], [] | ['Z']));
        live.len() + exited == all
    });
    live
}

/// Takes an identity whose number now belongs to a new tree that is made of these words. Kills the
/// tree of that identity by `kill`, in the same clock tick and in another one. The identity is
/// gone, and nothing of the new tree is hit.
fn is_not_hit(spec: &str, leads_group: bool, kill: impl Fn(&Kill, ProcessId) + Sync) {
    const TRIES: u32 = 300;
    let exited = spec.split(' ').filter(|&word| word == "exit").count();
    let (mut same, mut other) = (0, 0);
    for round in 0..TRIES {
        if same >= 1 && other >= 1 {
            return;
        }
        let mut old = Victim::start("");
        let id = of(old.pid());
        if round % 3 == 2 && other == 0 {
            // The kernel's clock must move on first.
            let tick = || of(Victim::start("").pid()).start_time();
            eventually("another tick", || tick() > id.start_time());
        }
        old.child().kill().unwrap();
        old.child().wait().unwrap();
        let mut command = stubborn(spec);
        if leads_group {
            command.process_group(0);
        }
        let mut new = start_as(id.pid(), command);
        let successor = of(id.pid());
        if successor == id {
            // Without an inode number (before Linux 6.9) the same tick is the same process.
            new.let_go();
            new.all_gone();
            continue;
        }
        let seen = match successor.start_time() == id.start_time() {
            true => &mut same,
            false => &mut other,
        };
        *seen += 1;
        if *seen <= 2 {
            assert!(id.is_gone().unwrap());
            let live = living(&new, exited);
            for how in ways() {
                unmoved(&live, || kill(&how, id));
            }
        }
        new.let_go();
        new.all_gone();
    }
    println!("skipped: a part, for {same} successors came in the same clock tick, {other} later");
}

fn gone_alone(how: &Kill, id: ProcessId) {
    let gone = [(id.pid(), Outcome::AlreadyGone)];
    assert_eq!(outcomes(&how.trees(&[id]).unwrap()), gone);
    assert_eq!(outcomes(&how.trees(&[id, id]).unwrap()), gone);
    assert_eq!(outcomes(&how.processes(&[id]).unwrap()), gone);
    // The same call with an identity that lives.
    let mut live = Victim::start("{ }");
    let report = how.trees(&[id, of(live.pid())]).unwrap();
    assert_eq!(report.iter().next(), Some(gone[0]));
    assert_eq!(report.len(), 3);
    live.all_gone();
}

#[test]
fn a_tree_that_has_the_number_of_a_root_is_not_hit() {
    if !is_root("a_tree_that_has_the_number_of_a_root_is_not_hit")
        || !alone!(a_tree_that_has_the_number_of_a_root_is_not_hit in OWN_PIDS)
    {
        return;
    }
    is_not_hit("{ }", false, gone_alone);
}

#[test]
fn a_group_that_has_the_number_of_a_root_is_not_hit() {
    if !is_root("a_group_that_has_the_number_of_a_root_is_not_hit")
        || !alone!(a_group_that_has_the_number_of_a_root_is_not_hit in OWN_PIDS)
    {
        return;
    }
    // One process of the tree has lost its parent.
    is_not_hit("{ } { { } exit }", true, gone_alone);
}

/// The number is given to a daemon after it was listed: its leader exits and is reaped.
#[test]
fn a_group_that_was_listed_while_it_was_empty_stays_empty() {
    if !is_root("a_group_that_was_listed_while_it_was_empty_stays_empty")
        || !alone!(a_group_that_was_listed_while_it_was_empty_stays_empty in OWN_PIDS)
    {
        return;
    }
    let mut old = Victim::start("");
    let number = old.pid();
    old.child().kill().unwrap();
    old.child().wait().unwrap();
    let registry = Registry::new();
    let ticket = registry.add_group(number).unwrap();
    let mut command = stubborn("{ } exit");
    command.process_group(0);
    let mut daemon = start_as(number, command);
    daemon.child().wait().unwrap();
    let live = living(&daemon, 1);
    unmoved(&live, || {
        assert!(registry.kill_all(&patient()).unwrap().is_empty())
    });
    drop(ticket);
    daemon.let_go();
    daemon.all_gone();
}

#[test]
fn a_session_that_has_the_number_of_a_root_is_not_hit() {
    if !is_root("a_session_that_has_the_number_of_a_root_is_not_hit")
        || !alone!(a_session_that_has_the_number_of_a_root_is_not_hit in OWN_PIDS)
    {
        return;
    }
    is_not_hit("setsid { { setpgid } }", false, gone_alone);
}

/// The successor itself is a zombie. It leads the group or session that other processes are in.
#[test]
fn what_a_zombie_with_the_number_of_a_root_leads_is_not_hit() {
    if !is_root("what_a_zombie_with_the_number_of_a_root_leads_is_not_hit")
        || !alone!(what_a_zombie_with_the_number_of_a_root_leads_is_not_hit in OWN_PIDS)
    {
        return;
    }
    is_not_hit("{ } { } exit", true, gone_alone);
    is_not_hit("setsid { { setpgid } } exit", false, gone_alone);
}

#[test]
fn the_caller_is_itself_in_a_copy_too() {
    if !alone!(the_caller_is_itself_in_a_copy_too) {
        return;
    }
    let me = ProcessId::current().unwrap();
    assert_eq!(me, of(std::process::id()));
    assert_eq!(me.pid(), std::process::id());
    assert!(!me.is_gone().unwrap());
    assert_eq!(me.to_string().parse::<ProcessId>().unwrap(), me);
    grandchild(
        || assert_eq!(ProcessId::current().unwrap().pid(), std::process::id()),
        |parent| {
            let copy = ProcessId::current().unwrap();
            assert_eq!(copy.pid(), std::process::id());
            assert_eq!(copy, of(std::process::id()));
            assert_ne!(copy, me);
            assert_ne!(copy, of(parent));
            assert!(!me.is_gone().unwrap());
            // The copy is the caller now. The original process is not.
            let error = Kill::now().trees(&[copy, me]).unwrap_err();
            let expected = [(copy.pid(), Reason::Caller), (me.pid(), Reason::Ancestor)];
            assert_eq!(reasons(&error), expected);
        },
    );
}

#[test]
fn an_identity_is_shown_to_programmers_as_to_users() {
    let id = ProcessId::current().unwrap();
    assert_eq!(format!("{id:?}"), id.to_string());
    assert_eq!(format!("{:?}", Some(id)), format!("Some({id})"));
}

#[test]
fn a_survivor_is_known_by_its_identity() {
    let mut victim = Victim::start("{ }");
    let pids = victim.pids();
    let error = wait_until_gone(&pids, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Survivors);
    let ids: Vec<ProcessId> = error.survivors().iter().filter_map(|s| s.id()).collect();
    assert_eq!(ids, pids.iter().map(|&pid| of(pid)).collect::<Vec<_>>());
    // A caller can use these identities to try again later.
    assert_eq!(patient().processes(&ids).unwrap().len(), 2);
    victim.all_gone();
    let error = Kill::now().pids(&[0, std::process::id(), 1]).unwrap_err();
    let ids: Vec<Option<ProcessId>> = error.survivors().iter().map(|s| s.id()).collect();
    let expected = [None, Some(ProcessId::current().unwrap()), Some(of(1))];
    assert_eq!(ids, expected);
    // The number of a thread names no process.
    let threaded = Victim::start("threads=1");
    eventually("a thread", || states(threaded.pid()).len() == 2);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", threaded.pid())).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let tid: Vec<u32> = tids.filter(|&tid| tid != threaded.pid()).collect();
    let error = Kill::now().pids(&tid).unwrap_err();
    assert_eq!(reasons(&error), [(tid[0], Reason::Thread)]);
    assert_eq!(error.survivors()[0].id(), None);
}

/// A stranger that gets this number, leads a session and a group of it, leaves a member in both, and
/// is reaped. So no process has the number, but a session and a group have it.
fn daemon_as(number: u32) -> (Victim, u32) {
    let mut daemon = start_as(number, stubborn("setsid { } exit"));
    daemon.child().wait().unwrap();
    let member = daemon.others()[0];
    assert_eq!(getsid(Some(raw(member))), Ok(raw(number)));
    assert_eq!(getpgid(Some(raw(member))), Ok(raw(number)));
    (daemon, member)
}

/// The child was waited for, and its session or group is empty. Then a stranger's daemon gets the
/// number.
#[test]
fn a_session_that_has_the_number_of_a_managed_child_is_not_hit() {
    let name = "a_session_that_has_the_number_of_a_managed_child_is_not_hit";
    if !is_root(name)
        || !alone!(a_session_that_has_the_number_of_a_managed_child_is_not_hit in OWN_PIDS)
    {
        return;
    }
    let stop = |crew: &mut Crew, how: &Kill| {
        let gone = [(crew.managed.id(), Outcome::AlreadyGone)];
        assert_eq!(outcomes(&crew.managed.stop(how).unwrap()), gone);
    };
    for group in [Group::NewSession, Group::New] {
        for how in ways() {
            let mut crew = Crew::start("", group);
            let registry = Registry::new();
            let ticket = registry.add(&crew.managed).unwrap();
            crew.managed.child().kill().unwrap();
            crew.managed.child().wait().unwrap();
            let (mut daemon, member) = daemon_as(crew.managed.id());
            unmoved(&[member], || stop(&mut crew, &how));
            unmoved(&[member], || drop(registry.kill_all(&how).unwrap()));
            drop(ticket);
            unmoved(&[member], || drop(crew));
            assert!(daemon.answers());
        }
    }
}

/// The child is reaped at once, because SIGCHLD is ignored. A process that it has forked holds up its
/// spawn until another process has the number and leads a group: a stranger's child, or with `adopts`
/// a child of the caller.
fn a_successor_during_the_spawn_is_not_managed(adopts: bool) {
    // SAFETY: SIG_IGN runs no code.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    if adopts {
        adopt_orphans().unwrap();
    }
    for group in [Group::Inherit, Group::New, Group::NewSession] {
        let [(leash, tell), (told, out)] = [(); 2].map(|()| pipe2(OFlag::O_CLOEXEC).unwrap());
        let (mut tell, told) = (File::from(tell), File::from(told));
        let mut command = stubborn("exit");
        command.stdin(leash).stdout(out);
        let program = CString::new(env!("CARGO_BIN_EXE_stubborn")).unwrap();
        let give_number_away = move || {
            let argv = [program.as_ptr(), std::ptr::null()];
            let envp = [c"STUBBORN=".as_ptr(), std::ptr::null()];
            // SAFETY: async-signal-safe calls, and pointers to values that live. Zero is valid for
            // all fields of clone_args. Without CLONE_VM this is fork(2).
            unsafe {
                let number = libc::getpid();
                if libc::fork() != 0 {
                    return Ok(());
                }
                let mut args: libc::clone_args = std::mem::zeroed();
                args.flags = libc::CLONE_PARENT as u64;
                args.set_tid = (&raw const number) as u64;
                args.set_tid_size = 1;
                let size = size_of::<libc::clone_args>();
                loop {
                    match libc::syscall(libc::SYS_clone3, &raw mut args, size) {
                        0 => break,
                        -1 if *libc::__errno_location() == libc::EEXIST => {}
                        _ => libc::_exit(0),
                    }
                }
                libc::setpgid(0, 0);
                libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
                libc::_exit(1)
            }
        };
        // SAFETY: the closure makes async-signal-safe calls only.
        unsafe { command.pre_exec(give_number_away) };
        let spawned = command.spawn_managed(group);
        drop(command);
        let spawned = spawned.map(drop).map_err(|e| e.kind());
        assert_eq!(spawned, Err(ErrorKind::Io), "{group:?}");
        let mut lines = BufReader::new(told).lines();
        let [ready, successor] = [(); 2].map(|()| lines.next().unwrap().unwrap());
        assert_eq!(ready, successor);
        tell.write_all(b"ping\n").unwrap();
        let answer = lines.next().map(Result::unwrap);
        assert_eq!(answer, Some(ready.replace("ready", "pong")));
        drop(tell);
        assert!(lines.next().is_none());
    }
}

#[test]
fn a_stranger_with_the_number_of_a_child_is_not_managed() {
    let name = "a_stranger_with_the_number_of_a_child_is_not_managed";
    if is_root(name) && alone!(a_stranger_with_the_number_of_a_child_is_not_managed in OWN_PIDS) {
        a_successor_during_the_spawn_is_not_managed(false);
        without_pidfds(|| a_successor_during_the_spawn_is_not_managed(false));
    }
}

#[test]
fn another_child_with_the_number_of_a_child_is_not_managed() {
    let name = "another_child_with_the_number_of_a_child_is_not_managed";
    if release() < [5, 12] {
        println!("skipped: {name} needs Linux 5.12");
    } else if is_root(name)
        && alone!(another_child_with_the_number_of_a_child_is_not_managed in OWN_PIDS)
    {
        a_successor_during_the_spawn_is_not_managed(true);
    }
}

/// The managed child was reaped by another, and its number is that of another child, a zombie.
fn the_status_of_another_child_is_left() {
    for group in [Group::Inherit, Group::New, Group::NewSession] {
        for way in 0..5 {
            // Nothing holds it, so it ends.
            let mut managed = Crew::start("", group).managed;
            let id = managed.process_id();
            waitpid(raw(id.pid()), None).unwrap();
            // Without inode numbers only the start time tells the two apart.
            let tick = || of(Victim::start("").pid()).start_time();
            eventually("another tick", || tick() > id.start_time());
            let mut other = start_as(id.pid(), stubborn("exit=20"));
            other.until_zombie();
            match way {
                0 => assert_eq!(managed.wait().unwrap_err().kind(), ErrorKind::Io),
                1 => assert_eq!(managed.try_wait().unwrap_err().kind(), ErrorKind::Io),
                2 => drop(managed.stop(&patient()).unwrap()),
                3 => {
                    let output = managed.output(&Limits::new()).unwrap();
                    assert_eq!(output.status, None);
                    managed = Crew::start("", group).managed;
                }
                _ => {}
            }
            drop(managed);
            assert_eq!(
                other.child().wait().unwrap().code(),
                Some(20),
                "{group:?} {way}"
            );
        }
    }
}

#[test]
fn another_child_with_the_number_of_a_reaped_one_keeps_its_status() {
    let name = "another_child_with_the_number_of_a_reaped_one_keeps_its_status";
    if is_root(name)
        && alone!(another_child_with_the_number_of_a_reaped_one_keeps_its_status in OWN_PIDS)
    {
        the_status_of_another_child_is_left();
        without_pidfds(the_status_of_another_child_is_left);
    }
}

/// The root obeys the first signal and is reaped. Its session has no member, and a stranger's daemon
/// gets its number while a descendant in another session still holds up the call.
#[test]
fn a_session_whose_number_is_given_away_during_the_grace_is_not_hit() {
    let name = "a_session_whose_number_is_given_away_during_the_grace_is_not_hit";
    if !is_root(name)
        || !alone!(a_session_whose_number_is_given_away_during_the_grace_is_not_hit in OWN_PIDS)
    {
        return;
    }
    let mut tree = Victim::start("setsid { setsid ignore=TERM }");
    let (root, stubborn) = (tree.pid(), tree.others()[0]);
    // After this, numbers up to the root's are only given out after the highest one.
    std::fs::write("/proc/sys/kernel/ns_last_pid", (root + 1000).to_string()).unwrap();
    let report = std::thread::scope(|scope| {
        let call = scope.spawn(|| Kill::graceful().grace(PATIENCE).tree(root));
        tree.until_zombie();
        tree.child().wait().unwrap();
        let (mut daemon, member) = daemon_as(root);
        unmoved(&[member], || {
            tree.let_go();
            call.join().unwrap()
        })
        .inspect(|_| assert!(daemon.answers()))
    });
    // The daemon's member has the group and session of the root, and no parent tells whose it is.
    let error = report.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unproven);
    let ended = [(root, Outcome::Exited), (stubborn, Outcome::Exited)];
    assert_eq!(outcomes(error.report().unwrap()), ended);
}

/// The leader was reaped before the call. The members of the first group obey the first signal, and
/// a stranger's daemon gets its number while the second group still holds up the call.
///
/// With `is_lap` all numbers were given out meanwhile, and most of the forks failed: those are not
/// counted in /proc/stat.
fn a_leaderless_group_given_away(
    name: &str,
    is_lap: bool,
    kill: fn(&Kill, &[u32]) -> process_kill::Result<Report>,
) {
    let mut first = group("{ } exit");
    let mut second = group("{ ignore=TERM } exit");
    for leaderless in [&mut first, &mut second] {
        leaderless.child().wait().unwrap();
    }
    let pgids = [&first, &second].map(Victim::pid);
    let members = [&first, &second].map(|group| group.others()[0]);
    // After this, numbers up to these are only given out after the highest one.
    std::fs::write(
        "/proc/sys/kernel/ns_last_pid",
        (pgids[1] + 1000).to_string(),
    )
    .unwrap();
    std::thread::scope(|scope| {
        let how = Kill::graceful().grace(PATIENCE);
        let call = scope.spawn(move || kill(&how, &pgids));
        first.all_gone();
        // Init reaps it.
        eventually("the number is free", || is_reaped(members[0]));
        let (mut daemon, member) = daemon_as(pgids[0]);
        if is_lap {
            let later = (pgids[1] + 2000).to_string();
            std::fs::write("/proc/sys/kernel/ns_last_pid", later).unwrap();
        }
        let ended = unmoved(&[member], || {
            second.let_go();
            call.join().unwrap()
        });
        assert!(daemon.answers());
        // After the daemon has exited, whose member it is cannot be told.
        let kind = ended.map_err(|e| e.kind());
        assert!(
            matches!(kind, Ok(_) | Err(ErrorKind::Unproven)),
            "{name}: {kind:?}"
        );
    });
}

#[test]
fn a_group_whose_number_is_given_away_during_the_grace_is_not_hit() {
    let name = "a_group_whose_number_is_given_away_during_the_grace_is_not_hit";
    if !is_root(name)
        || !alone!(a_group_whose_number_is_given_away_during_the_grace_is_not_hit in OWN_PIDS)
    {
        return;
    }
    a_leaderless_group_given_away(name, false, |kill, pgids| kill.groups(pgids));
    a_leaderless_group_given_away(name, true, |kill, pgids| kill.groups(pgids));
}

#[test]
fn a_job_whose_number_is_given_away_during_the_grace_is_not_hit() {
    let name = "a_job_whose_number_is_given_away_during_the_grace_is_not_hit";
    if !is_root(name)
        || !alone!(a_job_whose_number_is_given_away_during_the_grace_is_not_hit in OWN_PIDS)
    {
        return;
    }
    a_leaderless_group_given_away(name, false, |kill, pgids| kill.jobs(pgids));
    a_leaderless_group_given_away(name, true, |kill, pgids| kill.jobs(pgids));
}
