//! With few descriptors, or none, no target is spared and no incomplete list is called complete.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, gettid};
use process_kill::{
    Candidate, ErrorKind, Kill, Outcome, ProcessId, Reason, Report, descendant_pids,
    processes_where, sigkill_pids_and_verify, wait_until_gone,
};

use super::aim::{grandchild, grandparent};
use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, current_call, eventually, filter, findable, finders,
    is_root, open_descriptors, outcomes, patient, reasons, release, runs, states, until_asleep,
};

const CROWD: usize = 2000;
const FEW: u64 = 24;

/// The processes of the crowd in order, and their parent.
fn crowd(words: &str) -> (Victim, Vec<u32>) {
    let mut victim = Victim::start(&format!("{words} crowd={CROWD}"));
    let line = victim.line();
    let pids = line.strip_prefix("crowd ").unwrap().split(' ');
    let pids: Vec<u32> = pids.map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), CROWD);
    (victim, pids)
}

fn limit_descriptors(limit: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
}

#[test]
fn a_crowd_is_killed_with_few_descriptors() {
    if !alone!(a_crowd_is_killed_with_few_descriptors) {
        return;
    }
    let (mut victim, pids) = crowd("");
    limit_descriptors(FEW);
    let before = open_descriptors();
    let report = sigkill_pids_and_verify(&pids).unwrap();
    assert_eq!(report.pids(Outcome::Killed), pids);
    assert_eq!(report.len(), CROWD);
    assert_eq!(open_descriptors(), before);
    for pid in pids {
        assert_eq!(states(pid), ['Z']);
    }
    sigkill_pids_and_verify(&[victim.pid()]).unwrap();
    victim.all_gone();
}

#[test]
fn a_crowd_is_asked_first_with_few_descriptors() {
    if !alone!(a_crowd_is_asked_first_with_few_descriptors) {
        return;
    }
    let (_victim, pids) = crowd("");
    limit_descriptors(FEW);
    let before = open_descriptors();
    let patient = Kill::graceful().grace(PATIENCE);
    let report = patient.pids(&pids).unwrap();
    assert_eq!(report.pids(Outcome::Exited), pids);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_crowd_that_will_not_go_is_killed_with_few_descriptors() {
    if !alone!(a_crowd_that_will_not_go_is_killed_with_few_descriptors) {
        return;
    }
    let (_victim, pids) = crowd("ignore=TERM");
    limit_descriptors(FEW);
    let before = open_descriptors();
    let error = wait_until_gone(&pids, Duration::ZERO).unwrap_err();
    let running: Vec<_> = pids
        .iter()
        .map(|&pid| (pid, Reason::StillRunning))
        .collect();
    assert_eq!(reasons(&error), running);
    let ids: Vec<ProcessId> = pids
        .iter()
        .map(|&pid| ProcessId::of(pid).unwrap().unwrap())
        .collect();
    let hasty = Kill::graceful().grace(Duration::from_millis(100));
    let report = hasty.verify_within(PATIENCE).processes(&ids).unwrap();
    assert_eq!(report.pids(Outcome::Killed), pids);
    assert_eq!(open_descriptors(), before);
}

/// Every descriptor that there is.
pub fn fill_the_table() -> Vec<File> {
    limit_descriptors(FEW);
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(e) if e.raw_os_error() == Some(libc::EMFILE) => return files,
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn with_a_full_table_children_die_and_strangers_are_left_alone() {
    if !alone!(with_a_full_table_children_die_and_strangers_are_left_alone) {
        return;
    }
    let mut victims: Vec<Victim> = (0..3)
        .map(|_| Victim::start("ignore=TERM threads=1"))
        .collect();
    let zombie = Victim::start("exit");
    eventually("a zombie", || states(zombie.pid()) == ['Z']);
    let mut reaped = Victim::start("exit");
    reaped.child().wait().unwrap();
    let mut family = Victim::start("{ }");
    let stranger = family.others()[0];
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victims[0].pid())).unwrap();
    let mut tids: Vec<u32> = tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    tids.retain(|&tid| tid != victims[0].pid());
    let children: Vec<u32> = victims.iter().map(Victim::pid).collect();

    let full = fill_the_table();
    // The stranger cannot be pinned. It could be over, and a successor could have its number.
    let unsure = [stranger, tids[0]];
    let refused = [(stranger, Reason::Unverifiable), (tids[0], Reason::Thread)];
    let error = sigkill_pids_and_verify(&unsure).unwrap_err();
    assert_eq!(reasons(&error), refused);
    let error = wait_until_gone(&unsure, Duration::ZERO).unwrap_err();
    assert_eq!(reasons(&error), refused);
    for victim in &mut victims {
        assert!(victim.answers());
    }

    let gone = [zombie.pid(), reaped.pid()];
    let mixed = [&gone[..], &unsure, &[0, 1], &children].concat();
    let error = sigkill_pids_and_verify(&mixed).unwrap_err();
    let others = [(0, Reason::InvalidPid), (1, Reason::Init)];
    assert_eq!(reasons(&error), [refused, others].concat());
    let report = error.report().unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), gone);
    assert_eq!(report.pids(Outcome::Killed), children);
    assert_eq!(report.len(), gone.len() + children.len());
    let report = sigkill_pids_and_verify(&children).unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), children);

    let obedient = [family.pid()];
    let report = Kill::graceful().grace(PATIENCE).pids(&obedient).unwrap();
    assert_eq!(outcomes(&report), [(family.pid(), Outcome::Exited)]);
    drop(full);

    assert!(matches!(states(stranger)[..], ['S' | 'R']));
    for mut victim in victims {
        victim.all_gone();
        assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    }
    assert_eq!(family.child().wait().unwrap().signal(), Some(15));
    sigkill_pids_and_verify(&[stranger]).unwrap();
    family.all_gone();
}

/// What could not be held at first is held as soon as there is a descriptor. Another thread closes some
/// while the call sleeps.
#[test]
fn a_stranger_is_killed_once_there_is_a_descriptor() {
    if !alone!(a_stranger_is_killed_once_there_is_a_descriptor) {
        return;
    }
    let mut family = Victim::start("{ } { }");
    let strangers = family.others();
    let id = ProcessId::of(strangers[0]).unwrap().unwrap();
    // One that started at the time of the call could be a successor.
    let is_old = |pid: u32| {
        let old = |p: &Candidate<'_>| p.age().unwrap() > Duration::from_millis(100);
        !processes_where(|p| p.pid() == pid && old(p))
            .unwrap()
            .is_empty()
    };
    eventually("old", || strangers.iter().all(|&pid| is_old(pid)));
    let caller = current_call(gettid());
    for by_identity in [true, false] {
        let full = fill_the_table();
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                until_asleep(&caller, libc::SYS_ppoll);
                drop(full);
            });
            match by_identity {
                true => patient().processes(&[id]),
                false => patient().pids(&strangers),
            }
        });
        let report = report.unwrap();
        assert_eq!(
            report.pids(Outcome::Killed),
            strangers[usize::from(!by_identity)..][..1]
        );
    }
    sigkill_pids_and_verify(&[family.pid()]).unwrap();
    family.all_gone();
}

#[test]
fn two_free_descriptors_are_enough_for_any_number_of_strangers() {
    if !alone!(two_free_descriptors_are_enough_for_any_number_of_strangers) {
        return;
    }
    let mut victim = Victim::start("ignore=TERM { ignore=TERM { } } { leader-exits } { }");
    let mut full = fill_the_table();
    full.truncate(full.len() - 2);
    let all = victim.pids();
    let hasty = Kill::graceful().grace(Duration::from_millis(100));
    let report = hasty.pids(&victim.others()).unwrap();
    assert_eq!(report.len(), 4);
    let report = sigkill_pids_and_verify(&all).unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), victim.others());
    assert_eq!(report.pids(Outcome::Killed), [victim.pid()]);
    victim.all_gone();
    // Both are free again.
    let _two = [(); 2].map(|()| File::open("/dev/null").unwrap());
}

/// The descriptor that reads the ancestors may be the one that holds a target.
#[test]
fn without_descriptors_no_ancestor_is_killed() {
    if !is_root("without_descriptors_no_ancestor_is_killed")
        || !alone!(without_descriptors_no_ancestor_is_killed in OWN_PIDS)
    {
        return;
    }
    fn spares_it(free: usize, stranger: u32, above: u32) {
        let mut full = fill_the_table();
        full.truncate(full.len() - free);
        let hasty = Kill::now().verify_within(Duration::from_millis(200));
        if free == 1 && release() < [6, 13] {
            // A pidfd does not tell the parent, and /proc takes two descriptors.
            let error = hasty.pids(&[stranger, above]).unwrap_err();
            assert!(error.survivors().iter().any(|left| left.pid() == above));
            return;
        }
        let error = hasty.clone().at_most(0).pids(&[above]).unwrap_err();
        // Without a descriptor it is not known which process it is.
        let why = match free {
            0 => Reason::StillRunning,
            _ => Reason::Ancestor,
        };
        assert_eq!(reasons(&error), [(above, why)], "{free} free");
        let error = hasty.pids(&[stranger, above]).unwrap_err();
        let killed = error.report().unwrap().pids(Outcome::Killed);
        if free == 0 {
            let unsure = [stranger, above].map(|pid| (pid, Reason::Unverifiable));
            assert_eq!(reasons(&error), unsure);
            assert_eq!(killed, []);
        } else {
            assert_eq!(reasons(&error), [(above, why)], "{free} free");
            assert_eq!(killed, [stranger], "{free} free");
        }
    }
    for free in 0..=3 {
        let family = Victim::start("{ }");
        let stranger = family.others()[0];
        // Pid 2 is the test. Without /proc it looks like a kernel thread, so it is not used.
        let nothing = || {};
        grandchild(nothing, |_| {
            grandchild(nothing, |parent| {
                spares_it(free, stranger, grandparent(parent));
            });
        });
    }
}

#[test]
fn no_list_is_short_for_want_of_descriptors() {
    if !alone!(
        no_list_is_short_for_want_of_descriptors,
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc"
    ) {
        return;
    }
    let victim = findable("setsid { { leader-exits } } { }");
    let root = victim.pid();
    eventually("a leader's exit", || {
        let mut all = victim.others().into_iter().map(states);
        all.any(|states| matches!(states[..], ['Z', _]))
    });
    let complete: Vec<Vec<u32>> = finders(root).into_iter().map(Result::unwrap).collect();
    assert!(complete.iter().all(|list| !list.is_empty()), "{complete:?}");

    let mut full = fill_the_table();
    for answer in finders(root) {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Io);
    }
    // Each round has one more descriptor, until all calls have enough.
    let mut enough = false;
    while !enough {
        full.pop().expect("a few descriptors are enough");
        let before = full.len();
        enough = true;
        for (index, (answer, complete)) in finders(root).into_iter().zip(&complete).enumerate() {
            match answer {
                Ok(list) => assert_eq!(&list, complete, "finder {index}, {before} taken"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io);
                    enough = false;
                }
            }
        }
    }
}

#[test]
fn nobody_is_left_stopped_when_others_take_every_descriptor() {
    if !alone!(nobody_is_left_stopped_when_others_take_every_descriptor) {
        return;
    }
    let victim = Victim::start("wide=60");
    let pids = descendant_pids(victim.pid()).unwrap();
    limit_descriptors(FEW);
    let root = Pid::from_raw(victim.pid().try_into().unwrap());
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = Vec::new();
            let mut is_frozen = false;
            while !is_over.load(Ordering::Relaxed) {
                is_frozen |= waitid(Id::Pid(root), flags) != Ok(WaitStatus::StillAlive);
                if is_frozen {
                    taken.extend(File::open("/dev/null"));
                }
            }
        });
        // Chance decides whether the kill succeeds in the end.
        let killed = Kill::now()
            .verify_within(Duration::from_secs(1))
            .tree(victim.pid());
        is_over.store(true, Ordering::Relaxed);
        drop(killed);
    });
    for pid in pids {
        assert!(!states(pid).contains(&'T'), "{pid}");
    }
}

/// From the moment at which the call has opened some descriptors, another thread takes every one
/// that is free.
fn while_others_take_all<T>(after: usize, call: impl FnOnce() -> T) -> T {
    // The lowest free number is the next one that is opened.
    let first = File::open("/dev/null").unwrap().as_raw_fd();
    let mark = first + i32::try_from(after).unwrap();
    // SAFETY: integers only. Asks whether the number is that of an open descriptor.
    let is_open = || unsafe { libc::fcntl(mark, libc::F_GETFD) } != -1;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = Vec::new();
            let mut has_begun = false;
            while !is_over.load(Ordering::Relaxed) {
                has_begun |= is_open();
                if has_begun {
                    taken.extend(File::open("/dev/null"));
                }
            }
        });
        let result = call();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn nothing_is_falsely_ok_or_left_stopped_when_others_take_every_descriptor() {
    let name = "nothing_is_falsely_ok_or_left_stopped_when_others_take_every_descriptor";
    if !is_root(name)
        || !alone!(nothing_is_falsely_ok_or_left_stopped_when_others_take_every_descriptor in OWN_PIDS)
    {
        return;
    }
    const SPEC: &str = "setsid { ignore=TERM { } } { setpgid { ignore=TERM { } exit } }";
    /// The call, and whether its `Ok` says that the whole session is gone.
    type Call = (fn(&Kill, u32) -> process_kill::Result<Report>, bool);
    let calls: [Call; 6] = [
        (|kill, root| kill.tree(root), true),
        (|kill, root| kill.jobs(&[root]), true),
        (|kill, _| kill.matching("^[^ ]*/stubborn$"), true),
        (|kill, _| kill.children(), true),
        (|kill, root| kill.groups(&[root]), false),
        (|kill, root| kill.pids(&[root]), false),
    ];
    let moment = Duration::from_millis(50);
    let ways = [Kill::now(), Kill::graceful().grace(moment)];
    limit_descriptors(FEW);
    for after in (0..9).flat_map(|after| vec![after; runs(1) as usize]) {
        for (index, (call, is_whole)) in calls.iter().enumerate() {
            let mut victim = Victim::start(SPEC);
            let kill = ways[(after + index) % ways.len()].clone();
            let kill = kill.verify_within(4 * moment);
            let ended = while_others_take_all(after, || call(&kill, victim.pid()));
            let why = format!("call {index}, after {after}: {ended:?}");
            for pid in victim.pids() {
                assert!(!states(pid).contains(&'T'), "{pid}, {why}");
            }
            if let Err(error) = &ended {
                let gone: Vec<u32> = error
                    .report()
                    .into_iter()
                    .flat_map(|r| r.iter())
                    .map(|(pid, _)| pid)
                    .collect();
                assert!(
                    error.survivors().iter().all(|s| !gone.contains(&s.pid())),
                    "{why}"
                );
            }
            if let Ok(report) = ended {
                for (pid, _) in report.iter() {
                    assert!(matches!(states(pid)[..], [] | ['Z']), "{pid}, {why}");
                }
                assert!(!is_whole || victim.is_all_gone(4 * moment), "{why}");
            }
            victim.let_go();
            victim.all_gone();
        }
    }
}

/// There are more targets than descriptors. After all are stopped, those without a descriptor cannot
/// be held again.
#[test]
fn what_cannot_be_held_again_is_not_left_stopped() {
    let name = "what_cannot_be_held_again_is_not_left_stopped";
    if !is_root(name) || !alone!(what_cannot_be_held_again_is_not_left_stopped in OWN_PIDS) {
        return;
    }
    let has_inodes = !ProcessId::current().unwrap().to_string().contains(":-:");
    if release() < [6, 13] || !has_inodes {
        // There the start time is read too, and it holds a process again.
        println!("skipped: {name} needs Linux 6.13, where a pidfd tells the parent");
        return;
    }
    let victim = Victim::start("wide=60");
    let root = victim.pid();
    let pids = descendant_pids(root).unwrap();
    limit_descriptors(FEW);
    let no_pidfds = filter(&[libc::SYS_pidfd_open], libc::ENOSYS);
    let error = std::thread::scope(|scope| {
        // The filter applies to this thread alone.
        let call = scope.spawn(|| {
            let mut searches = 0;
            let hasty = Kill::now().verify_within(Duration::from_millis(100));
            hasty.all_where(|candidate| {
                searches += u32::from(candidate.pid() == root);
                // Before the second search all are stopped.
                if candidate.pid() == root && searches == 2 {
                    seccompiler::apply_filter(&no_pidfds).unwrap();
                }
                candidate.parent() == root
            })
        });
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Survivors, "{error}");
    // Each is told once: as a survivor, or as gone.
    assert_eq!(
        error.survivors().len() + error.report().unwrap().len(),
        pids.len()
    );
    for pid in pids {
        assert!(!states(pid).contains(&'T'), "{pid}");
    }
}
