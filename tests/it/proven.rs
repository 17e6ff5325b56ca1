//! `Ok` is never false: if a process was not seen gone, the call returns an error, however rare the
//! case.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use process_kill::child::adopt_orphans;
use process_kill::{
    Candidate, Coverage, ErrorKind, Kill, Outcome, Process, ProcessId, Reason, Report, Survivor,
    descendant_pids,
};

use super::fixture::{
    AS_INIT, OWN_PIDS, PATIENCE, Victim, alone, as_nobody, asleep_in, eventually, is_root, patient,
    readable, reasons, release, runs, states, stubborn,
};
use super::tree::unmoved;

/// More than enough time for a pipe to show end-of-file after its last holder is gone. Also the grace of
/// processes that ignore the first signal.
const MOMENT: Duration = Duration::from_millis(200);

/// A fork of a victim that is under way; see `held-fork` in `tests/bin/stubborn.rs`.
struct HeldFork {
    events: File,
}

impl HeldFork {
    /// Waits until the fork is held.
    fn of(pid: u32, fd: u16) -> HeldFork {
        // SAFETY: three integers. The results are descriptors that only this function has.
        let events = unsafe {
            let pid: i32 = pid.try_into().unwrap();
            let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            assert!(process >= 0, "{}", std::io::Error::last_os_error());
            let process = OwnedFd::from_raw_fd(process.try_into().unwrap());
            // Linux 5.6.
            let events =
                libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), i32::from(fd), 0);
            assert!(events >= 0, "{}", std::io::Error::last_os_error());
            File::from(OwnedFd::from_raw_fd(events.try_into().unwrap()))
        };
        readable(&events, PATIENCE);
        HeldFork { events }
    }

    /// Lets the child be born. False if a signal has ended the fork, so that there is no child.
    fn release(mut self) -> bool {
        const FORK: u8 = 0x13;
        // `struct uffd_msg`.
        let mut message = [0; 32];
        match self.events.read(&mut message) {
            Ok(length) => {
                assert_eq!((length, message[0]), (message.len(), FORK));
                let fd = i32::from_ne_bytes(message[8..12].try_into().unwrap());
                // SAFETY: the read made this descriptor, and only this function knows of it. It is
                // for events of the child.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                true
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        }
    }
}

/// SIGSTOP does not end a fork that is under way, so the child is born after its parent was listed.
/// Another member sleeps in state D too, as a vfork(2) parent does, so a walk has to look twice.
#[test]
fn a_child_whose_fork_is_under_way_is_not_missed() {
    // Only CAP_SYS_PTRACE gets events of forks, whatever vm.unprivileged_userfaultfd says.
    if !is_root("a_child_whose_fork_is_under_way_is_not_missed")
        || !alone!(a_child_whose_fork_is_under_way_is_not_missed in OWN_PIDS)
    {
        return;
    }
    const ROUNDS: u32 = 20;
    let (mut oks, mut born) = (0, 0);
    let mut false_oks = Vec::new();
    let delays =
        (0..ROUNDS * runs(1)).map(|round| Duration::from_millis((round % ROUNDS * 3).into()));
    for delay in delays {
        let mut victim = Victim::start("{ held-fork } { vfork=quiet }");
        let holder = victim.ready.iter().find_map(|&(pid, fd)| Some((pid, fd?)));
        let (holder, fd) = holder.unwrap();
        let others = victim.others();
        let vforker = *others.iter().find(|&&pid| pid != holder).unwrap();
        let fork = HeldFork::of(holder, fd);
        eventually("D", || states(holder) == ['D'] && states(vforker) == ['D']);
        let begin = Barrier::new(2);
        let (ended, is_born) = thread::scope(|scope| {
            let release = scope.spawn(|| {
                begin.wait();
                // This sleep waits for nothing. The rounds try one moment of the call after the
                // other.
                thread::sleep(delay);
                fork.release()
            });
            begin.wait();
            let ended = Kill::now().tree(victim.pid());
            (ended, release.join().unwrap())
        });
        oks += u32::from(ended.is_ok());
        born += u32::from(is_born);
        // An error may be correct, because the fork was under way until the end.
        if ended.is_ok() && !victim.is_all_gone(MOMENT) {
            false_oks.push(delay);
        }
        victim.let_go();
        victim.all_gone();
    }
    println!("{oks} times Ok, {born} children born");
    assert_eq!(false_oks, []);
}

/// A child that shares the memory of its parent does not prove that the parent waits for it in vfork(2).
/// Here the fork ends while the members are killed, its parent last.
#[test]
fn a_fork_beside_a_child_that_shares_the_memory_is_not_missed() {
    let name = "a_fork_beside_a_child_that_shares_the_memory_is_not_missed";
    if !is_root(name)
        || !alone!(a_fork_beside_a_child_that_shares_the_memory_is_not_missed in OWN_PIDS)
    {
        return;
    }
    for _ in 0..runs(3) {
        let mut victim = Victim::start("wide=1000 held-fork=shared");
        let root = victim.pid();
        let fork = HeldFork::of(root, victim.ready[0].1.unwrap());
        eventually("D", || states(root) == ['D']);
        // Those of the crowd are killed first.
        let first = *descendant_pids(root).unwrap().last().unwrap();
        let first = Process::open(first).unwrap().unwrap();
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                first.wait_until_gone(PATIENCE).unwrap();
                fork.release()
            });
            Kill::now().tree(root)
        });
        // An error may be correct, because the fork was under way until the end.
        if ended.is_ok() {
            assert!(victim.is_all_gone(MOMENT), "one lives on");
        }
        victim.let_go();
        victim.all_gone();
    }
}

#[test]
fn a_fork_that_is_under_way_until_the_end_is_killed() {
    if !is_root("a_fork_that_is_under_way_until_the_end_is_killed")
        || !alone!(a_fork_that_is_under_way_until_the_end_is_killed in OWN_PIDS)
    {
        return;
    }
    let mut victim = Victim::start("{ held-fork }");
    let (holder, fd) = victim
        .ready
        .iter()
        .find_map(|&(pid, fd)| Some((pid, fd?)))
        .unwrap();
    let fork = HeldFork::of(holder, fd);
    // On a busy machine it may not be provable in time that the fork did not end.
    if let Err(error) = Kill::now().tree(victim.pid()) {
        assert_eq!(error.kind(), ErrorKind::Unproven, "{error}");
    }
    assert!(!fork.release());
    victim.all_gone();
}

/// Each process of a chain forks the next one and exits. It is often gone before a scan of /proc
/// reaches it. The next one may have a number that the scan has already passed. So scans find
/// nothing although the chain goes on.
#[test]
fn a_search_for_chains_of_forks_is_never_falsely_ok() {
    let name = "a_search_for_chains_of_forks_is_never_falsely_ok";
    if !is_root(name) || !alone!(a_search_for_chains_of_forks_is_never_falsely_ok in OWN_PIDS) {
        return;
    }
    const CHAINS: u32 = 5;
    // Other processes, so that a scan takes longer.
    let mut crowd = Victim::start("wide=100");
    let (mut oks, mut false_oks, mut unmet) = (0, 0, 0);
    for _ in 0..runs(12) {
        let mut chains: Vec<Victim> = (0..CHAINS)
            .map(|_| {
                let mut chain = stubborn("leapfrog");
                chain.arg("chained");
                Victim::spawn(chain)
            })
            .collect();
        let kill = Kill::now().verify_within(Duration::from_millis(100));
        let ended = kill.matching("^[^ ]*/stubborn chained$");
        if let Ok(report) = ended {
            oks += 1;
            if !chains.iter_mut().all(|chain| chain.is_all_gone(MOMENT)) {
                false_oks += 1;
                unmet += u32::from(report.is_empty());
            }
        }
        for chain in &mut chains {
            chain.let_go();
            chain.all_gone();
        }
    }
    assert!(crowd.answers());
    assert_eq!(
        false_oks, 0,
        "of {oks} times Ok; {unmet} of these never met a chain"
    );
}

/// Each process of a chain forks the next one and exits. The root adopts all of them and never reaps
/// one. Until a walk has looked at so many dead children, the last one of the list is dead too, and
/// its child is not in the list.
#[test]
fn a_tree_of_chains_whose_dead_are_kept_is_never_falsely_ok() {
    let name = "a_tree_of_chains_whose_dead_are_kept_is_never_falsely_ok";
    if !is_root(name)
        || !alone!(a_tree_of_chains_whose_dead_are_kept_is_never_falsely_ok in OWN_PIDS)
    {
        return;
    }
    const DEAD: usize = 300;
    let (mut oks, mut false_oks) = (0, 0);
    for _ in 0..runs(10) {
        let mut root = Victim::start("adopt { leapfrog=stay }");
        let pid = root.pid();
        eventually("many are dead", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            children.unwrap().split_whitespace().count() > DEAD
        });
        let kill = Kill::now().verify_within(Duration::from_millis(200));
        if kill.tree(pid).is_ok() {
            oks += 1;
            false_oks += u32::from(!root.is_all_gone(MOMENT));
        }
        root.let_go();
        root.all_gone();
    }
    println!("{oks} times Ok");
    assert_eq!(false_oks, 0, "of {oks} times Ok");
}

/// Gives the PID namespace of the test fewer numbers than the crate believes the fork counter with,
/// and goes to the highest ones. False: the kernel has one limit for all namespaces.
fn limit_numbers(test: &str) -> bool {
    if release() < [6, 14] {
        println!("skipped: {test} needs Linux 6.14, because it changes kernel.pid_max");
        return false;
    }
    std::fs::write("/proc/sys/kernel/pid_max", "400").unwrap();
    std::fs::write("/proc/sys/kernel/ns_last_pid", "350").unwrap();
    true
}

/// Starts a process that ends at once, and reaps it. Returns what the fork counter shows then.
fn give_a_number_away() -> String {
    assert!(Command::new("true").status().unwrap().success());
    std::fs::read_to_string("/proc/sys/kernel/ns_last_pid").unwrap()
}

/// While the search looks, a process is born that it does not see, and then so many others that the
/// fork counter shows the same number as before.
#[test]
fn a_fork_counter_that_was_all_around_is_no_proof() {
    let name = "a_fork_counter_that_was_all_around_is_no_proof";
    if !is_root(name)
        || !alone!(a_fork_counter_that_was_all_around_is_no_proof in OWN_PIDS)
        || !limit_numbers(name)
    {
        return;
    }
    // The search has to look at a process.
    let mut other = Victim::start("");
    let mut newcomer: Option<Victim> = None;
    let before = give_a_number_away();
    let ended = Kill::now().verify_within(MOMENT).all_where(|candidate| {
        let newcomer = newcomer.get_or_insert_with(|| {
            let newcomer = Victim::start("");
            while give_a_number_away() != before {}
            newcomer
        });
        candidate.pid() == newcomer.pid()
    });
    let mut newcomer = newcomer.unwrap();
    // What was born while others were looked at may be found later or not be ruled out.
    match ended {
        Ok(report) => assert_eq!(report.pids(Outcome::Killed), [newcomer.pid()]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unproven, "{error}"),
    }
    newcomer.all_gone();
    assert!(other.answers());
}

#[test]
fn with_few_numbers_no_search_is_exact() {
    let name = "with_few_numbers_no_search_is_exact";
    if !is_root(name) || !alone!(with_few_numbers_no_search_is_exact in OWN_PIDS) {
        return;
    }
    let calls: [fn(u32) -> process_kill::Result<Report>; 3] = [
        |pid| patient().tree(pid),
        |pid| patient().all_where(|candidate| candidate.pid() == pid),
        |_| patient().matching("/stubborn few$"),
    ];
    let coverages = || {
        calls.map(|call| {
            let mut command = stubborn("");
            command.arg("few");
            let mut victim = Victim::spawn(command);
            let report = call(victim.pid()).unwrap();
            assert_eq!(report.pids(Outcome::Killed), [victim.pid()]);
            victim.all_gone();
            report.coverage()
        })
    };
    assert_eq!(coverages(), [Coverage::Exact; 3]);
    if limit_numbers(name) {
        assert_eq!(coverages(), [Coverage::BestEffort; 3]);
    }
}

#[test]
fn what_a_closure_may_not_read_is_no_proof() {
    let name = "what_a_closure_may_not_read_is_no_proof";
    if !is_root(name) || !alone!(what_a_closure_may_not_read_is_no_proof in OWN_PIDS) {
        return;
    }
    let mut command = stubborn("");
    command.env("SOUGHT", "yes").current_dir("/tmp");
    let mut victim = Victim::spawn(command);
    let pid = victim.pid();
    type Question = fn(&Candidate<'_>) -> bool;
    let ask = |question: Question| {
        let ended = Kill::now().all_where(|p| p.pid() == pid && question(p));
        let report = ended.unwrap();
        (report.len(), report.coverage())
    };
    let refused: [Question; 5] = [
        |p| p.has_env("SOUGHT", "yes"),
        |p| p.env("SOUGHT").is_ok_and(|set| set.is_some()),
        |p| p.cwd().is_ok_and(|dir| dir == Path::new("/tmp")),
        |p| p.exe().is_ok(),
        |p| p.is_in_directory(Path::new("/tmp")),
    ];
    let readable: [Question; 2] = [|p| p.name() == "sought", |p| p.args().is_err()];
    as_nobody(|| {
        for question in refused {
            assert_eq!(ask(question), (0, Coverage::BestEffort));
        }
        for question in readable {
            assert_eq!(ask(question), (0, Coverage::Exact));
        }
    });
    assert!(victim.answers());
    assert_eq!(ask(refused[0]), (1, Coverage::Exact));
    victim.all_gone();
}

#[test]
fn a_process_whose_files_are_covered_is_not_proven_gone() {
    let name = "a_process_whose_files_are_covered_is_not_proven_gone";
    if !is_root(name) || !alone!(a_process_whose_files_are_covered_is_not_proven_gone in OWN_PIDS) {
        return;
    }
    let mut command = stubborn("");
    command.arg("covered");
    let mut victim = Victim::spawn(command);
    let empty = tempfile::tempdir().unwrap();
    let over = format!("/proc/{}", victim.pid());
    let none = None::<&str>;
    mount(
        Some(empty.path()),
        over.as_str(),
        none,
        MsFlags::MS_BIND,
        none,
    )
    .unwrap();
    let report = patient().matching("/stubborn covered$").unwrap();
    assert_eq!((report.len(), report.coverage()), (0, Coverage::BestEffort));
    umount(over.as_str()).unwrap();
    let report = patient().matching("/stubborn covered$").unwrap();
    assert_eq!((report.len(), report.coverage()), (1, Coverage::Exact));
    victim.all_gone();
}

/// A process in a PID namespace of its own. There it has the number that the test asks for.
struct Foreigner {
    unshare: Child,
    /// The identity that the process says it has.
    id: ProcessId,
    out: BufReader<ChildStdout>,
}

impl Foreigner {
    const INSIDE: &str = "PROCESS_KILL_TEST_FOREIGNER";

    /// Starts the test again in the namespace. There the test calls [`Foreigner::live`].
    fn start(test: &str, number: u32) -> Foreigner {
        let script = format!(
            "echo {} > /proc/sys/kernel/ns_last_pid; \"$@\"; exit $?",
            number - 1
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["sh", "-c", &script, "sh"]);
        unshare.arg(std::env::current_exe().unwrap());
        unshare.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        unshare.env(Foreigner::INSIDE, "").stdin(Stdio::piped());
        let mut unshare = unshare.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(unshare.stdout.take().unwrap());
        let text = line_after(&mut out, "identity ");
        let id: ProcessId = text.parse().unwrap();
        assert_eq!((id.pid(), id.to_string()), (number, text));
        Foreigner { unshare, id, out }
    }

    /// True inside the namespace, after the test has ended there.
    fn live() -> bool {
        if std::env::var_os(Foreigner::INSIDE).is_none() {
            return false;
        }
        let id = ProcessId::of(std::process::id()).unwrap().unwrap();
        println!("\nidentity {id}");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        println!("\nalive {}", !id.is_gone().unwrap());
        true
    }

    fn is_alive(&mut self) -> bool {
        // End-of-file also ends the wait of the process, which then answers.
        drop(self.unshare.stdin.take());
        line_after(&mut self.out, "alive ") == "true"
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        // The namespace ends when this process is killed. The process may have ended by itself.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The rest of the first line that begins so. Empty if no line does.
fn line_after(out: &mut BufReader<ChildStdout>, word: &str) -> String {
    let mut lines = out.lines().map(Result::unwrap);
    let line = lines.find_map(|line| Some(line.strip_prefix(word)?.to_owned()));
    line.unwrap_or_default()
}

#[test]
fn an_identity_of_another_pid_namespace_is_a_survivor() {
    let test = "an_identity_of_another_pid_namespace_is_a_survivor";
    if !is_root(test) || Foreigner::live() {
        return;
    }
    let mut namesake = Victim::start("");
    let pid = namesake.pid();
    let mut foreigner = Foreigner::start(&format!("proven::{test}"), pid);
    let id = foreigner.id;
    // In this namespace, another process has this number.
    let soon = Duration::from_millis(100);
    for kill in [Kill::now(), Kill::graceful().grace(soon)] {
        let ended = unmoved(&[pid], || kill.verify_within(soon).processes(&[id]));
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Survivors);
        assert_eq!(reasons(&error), [(pid, Reason::Unverifiable)]);
        let survivor = &error.survivors()[0];
        assert_eq!((survivor.name(), survivor.state()), (None, None));
        assert!(error.report().unwrap().is_empty());
    }
    assert!(namesake.answers());
    assert!(foreigner.is_alive());
}

#[test]
fn nobody_can_tell_whether_an_identity_of_another_pid_namespace_is_gone() {
    let test = "nobody_can_tell_whether_an_identity_of_another_pid_namespace_is_gone";
    if !is_root(test) || Foreigner::live() {
        return;
    }
    let mut namesake = Victim::start("");
    let mut foreigner = Foreigner::start(&format!("proven::{test}"), namesake.pid());
    // Another process has this number here. After that, no process has it.
    let first = foreigner.id.is_gone();
    namesake.let_go();
    namesake.child().wait().unwrap();
    let second = foreigner.id.is_gone();
    assert!(foreigner.is_alive());
    assert!(first.is_err() && second.is_err(), "{first:?} {second:?}");
}

/// The orphans of a PID namespace go to its own init, and not to the caller, which adopts all
/// others.
#[test]
fn children_with_a_pid_namespace_of_their_own_are_no_exact_search() {
    let name = "children_with_a_pid_namespace_of_their_own_are_no_exact_search";
    if !is_root(name)
        || !alone!(children_with_a_pid_namespace_of_their_own_are_no_exact_search in OWN_PIDS)
    {
        return;
    }
    adopt_orphans().unwrap();
    for (spec, coverage) in [
        ("{ wide=1 }", Coverage::Exact),
        ("{ unshare-pid wide=1 }", Coverage::BestEffort),
        // By now it is the caller's own child, and the only process of that namespace.
        ("{ unshare-pid wide=1 exit }", Coverage::BestEffort),
    ] {
        // The first process of a namespace ignores SIGTERM.
        for kill in [patient(), patient().grace(MOMENT)] {
            let mut victim = Victim::start(spec);
            if spec.contains("exit") {
                eventually("the exit", || states(victim.others()[0]) == ['Z']);
            }
            let report = kill.children().unwrap();
            assert_eq!(report.coverage(), coverage, "{spec}");
            victim.all_gone();
        }
    }
}

/// A shell that handles SIGTERM in this way, and has said so.
fn shell_with_handler(handler: &str) -> Child {
    let script = format!("trap '{handler}' TERM; echo ready; while :; do read line; done");
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until_ready(&mut shell);
    shell
}

fn until_ready(shell: &mut Child) {
    let mut ready = [0; 6];
    let out = shell.stdout.as_mut().unwrap();
    out.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
}

/// A handler of the first signal starts a process and exits at once. No list shows the process while
/// its parent lives.
#[test]
fn what_a_handler_leaves_behind_is_killed_or_told() {
    if !is_root("what_a_handler_leaves_behind_is_killed_or_told")
        || !alone!(what_a_handler_leaves_behind_is_killed_or_told in OWN_PIDS)
    {
        return;
    }
    let mut ends = [0; 3];
    for _ in 0..runs(30) {
        let mut shell = shell_with_handler("sleep 61 & exit");
        let ended = Kill::graceful().tree(shell.id());
        ends[judge(&ended, shell.stdout.as_ref().unwrap())] += 1;
        shell.wait().unwrap();
    }
    println!("{} killed, {} told, {} false", ends[0], ends[1], ends[2]);
    assert_eq!(ends[2], 0);
}

/// When the first signal has ended all members, the fork counter shows what it showed before. The most of
/// the lap is left out, because it takes long.
#[test]
fn a_lap_of_the_numbers_is_not_taken_for_no_birth() {
    let name = "a_lap_of_the_numbers_is_not_taken_for_no_birth";
    if !is_root(name) || !alone!(a_lap_of_the_numbers_is_not_taken_for_no_birth in OWN_PIDS) {
        return;
    }
    if release() < [6, 14] {
        println!("skipped: {name} needs Linux 6.14, because it changes kernel.pid_max");
        return;
    }
    std::fs::write("/proc/sys/kernel/pid_max", "32768").unwrap();
    let mut victim = Victim::start("{ setpgid heir=lap }");
    let root = victim.others()[0];
    // The newest number is free.
    drop(Victim::start(""));
    let kill = Kill::graceful().grace(PATIENCE).verify_within(PATIENCE);
    let ended = kill.tree(root);
    assert_eq!(victim.line(), "heir");
    if let Ok(report) = ended {
        assert_eq!(report.coverage(), Coverage::BestEffort);
    }
    victim.let_go();
    victim.all_gone();
}

/// The parent of the orphan is no init and no member: clone(2) `CLONE_PARENT` makes it a child of the
/// caller, or an ancestor in the same session is a subreaper.
#[test]
fn an_orphan_in_a_group_of_the_tree_is_told_whoever_is_its_parent() {
    let name = "an_orphan_in_a_group_of_the_tree_is_told_whoever_is_its_parent";
    if !is_root(name)
        || !alone!(an_orphan_in_a_group_of_the_tree_is_told_whoever_is_its_parent in OWN_PIDS)
    {
        return;
    }
    for spec in ["setpgid heir=aside", "adopt { setpgid heir }"] {
        for _ in 0..runs(20) {
            let mut victim = Victim::start(spec);
            let root = victim.others().pop().unwrap_or(victim.pid());
            // An heir that is found ignores the first signal.
            let ended = Kill::graceful().grace(MOMENT).tree(root);
            assert_eq!(victim.line(), "heir");
            let mut below = descendant_pids(std::process::id()).unwrap();
            below.retain(|&pid| pid != victim.pid() && states(pid) != ['Z']);
            match ended {
                Ok(_) => assert_eq!(below, [], "{spec}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unproven, "{error}");
                    let left = error.left_alone();
                    assert_eq!(left.iter().map(Survivor::pid).collect::<Vec<_>>(), below);
                    let named = format!("and new ones may be left: {} (stubborn)", below[0]);
                    assert!(error.to_string().contains(&named), "{error}");
                    let ids: Vec<ProcessId> = left.iter().filter_map(Survivor::id).collect();
                    let report = Kill::now().trees(&ids).unwrap();
                    assert_eq!(report.pids(Outcome::Killed), below);
                }
            }
            victim.let_go();
            victim.all_gone();
        }
    }
}

/// The subreaper that is given the orphan is no ancestor of the caller, and is in the same session and
/// group. The member that started the orphan is gone when the newcomers are looked at.
#[test]
fn an_orphan_that_another_subreaper_is_given_is_no_exact_kill() {
    let name = "an_orphan_that_another_subreaper_is_given_is_no_exact_kill";
    if !is_root(name)
        || !alone!(an_orphan_that_another_subreaper_is_given_is_no_exact_kill in OWN_PIDS)
    {
        return;
    }
    let mut alive = 0;
    for _ in 0..runs(20) {
        let mut victim = Victim::start("adopt { heir }");
        let root = victim.others()[0];
        // An heir that is found ignores the first signal.
        let ended = Kill::graceful().grace(MOMENT).tree(root);
        assert_eq!(victim.line(), "heir");
        let heirs = descendant_pids(victim.pid()).unwrap();
        let is_alive = heirs.iter().any(|&pid| states(pid) != ['Z']);
        if ended.is_ok_and(|report| report.coverage() == Coverage::Exact) {
            assert!(!is_alive);
        } else {
            alive += usize::from(is_alive);
        }
        victim.let_go();
        victim.all_gone();
    }
    println!("alive and not Exact: {alive}");
}

/// The init of a PID namespace is given the orphans there, also those of a process that has entered it.
/// This one is a stranger's.
#[test]
fn an_orphan_in_a_strangers_namespace_is_no_exact_kill() {
    const TRIES: u32 = 5;
    let name = "an_orphan_in_a_strangers_namespace_is_no_exact_kill";
    if !is_root(name) || !alone!(an_orphan_in_a_strangers_namespace_is_no_exact_kill in OWN_PIDS) {
        return;
    }
    // The shell exits, so the container is no descendant of this program.
    let script = "unshare --pid --fork sleep 300 >/dev/null 2>&1 & echo $!";
    let container = Command::new("sh").args(["-c", script]).output().unwrap();
    let container = String::from_utf8(container.stdout).unwrap();
    let container: u32 = container.trim_end().parse().unwrap();
    let mut init = Vec::new();
    eventually("the init of the container", || {
        init = descendant_pids(container).unwrap();
        !init.is_empty()
    });
    adopt_orphans().unwrap();
    // Beside a busy machine's other work an heir may be found and killed. One must not be.
    let is_left = |ended: process_kill::Result<Report>| {
        let heirs = descendant_pids(init[0]).unwrap();
        let is_alive = heirs.iter().any(|&pid| states(pid) != ['Z']);
        assert!(!is_alive || !ended.is_ok_and(|report| report.coverage() == Coverage::Exact));
        is_alive
    };
    let entered = |kill: fn(Kill, u32) -> process_kill::Result<Report>| {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &init[0].to_string(), "--pid"]);
        enter.arg(env!("CARGO_BIN_EXE_stubborn"));
        enter.env("STUBBORN", "heir=late");
        let mut victim = Victim::spawn(enter);
        let ended = kill(Kill::graceful(), victim.pid());
        assert_eq!(victim.line(), "heir");
        let is_alive = is_left(ended);
        victim.let_go();
        victim.all_gone();
        is_alive
    };
    assert!((0..TRIES).any(|_| entered(|kill, root| kill.tree(root))));
    assert!((0..TRIES).any(|_| entered(|kill, _| kill.children())));
    // A child enters it only when it gets the first signal.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("leave");
    // It ends once the daemon has left the session.
    let leave = "{ setsid sh -c 'echo; exec sleep 61 >/dev/null 2>&1' & } | read line";
    std::fs::write(&script, leave).unwrap();
    let enter = format!("nsenter --target {} --pid sh {}", init[0], script.display());
    let entering = || {
        let mut shell = shell_with_handler(&format!("{enter}; exit"));
        let ended = Kill::graceful().children();
        shell.wait().unwrap();
        is_left(ended)
    };
    assert!((0..TRIES).any(|_| entering()));
}

/// All numbers are given out while a call waits. The fork counter then shows less than the number of an
/// orphan that was born in between.
#[test]
fn an_orphan_is_told_after_a_lap_of_the_numbers() {
    let name = "an_orphan_is_told_after_a_lap_of_the_numbers";
    if !is_root(name) || !alone!(an_orphan_is_told_after_a_lap_of_the_numbers in OWN_PIDS) {
        return;
    }
    if release() < [6, 14] {
        println!("skipped: {name} needs Linux 6.14, because it changes kernel.pid_max");
        return;
    }
    let go_to = |number: &str| std::fs::write("/proc/sys/kernel/ns_last_pid", number).unwrap();
    std::fs::write("/proc/sys/kernel/pid_max", "32768").unwrap();
    go_to("1000");
    let handler = "echo begun; read line; sleep 61 & exit";
    let inner = format!("trap \"{handler}\" TERM; echo ready; while :; do read line; done");
    let outer = format!("trap : TERM; sh -c '{inner}'; echo ended; read line");
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &outer]).stdin(Stdio::piped());
    let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
    until_ready(&mut shell);
    let root = shell.id();
    let mut go_on = shell.stdin.take().unwrap();
    let says = |shell: &mut Child, word: &str| {
        let mut said = [0; 6];
        shell
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
        assert_eq!(said, format!("{word}\n").as_bytes());
    };
    let (tell, told) = mpsc::channel();
    let begun = Instant::now();
    let call = thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        Kill::graceful().grace(PATIENCE).tree(root)
    });
    says(&mut shell, "begun");
    // Births are not watched any more.
    asleep_in(told.recv().unwrap(), libc::SYS_ppoll);
    go_to("20000");
    go_on.write_all(b"\n").unwrap();
    says(&mut shell, "ended");
    go_to("2000");
    // No machine forks as often in less time.
    eventually("time for a lap", || {
        begun.elapsed() > Duration::from_millis(40)
    });
    go_on.write_all(b"\n").unwrap();
    let ended = call.join().unwrap();
    assert_eq!(judge(&ended, shell.stdout.as_ref().unwrap()), 1);
    shell.wait().unwrap();
}

/// A call that may last a lap of the numbers does not suspect who was there before it. Init is the
/// parent of both, as of an orphan.
#[test]
fn an_older_sibling_is_not_suspected_however_long_a_call_lasts() {
    let name = "an_older_sibling_is_not_suspected_however_long_a_call_lasts";
    if !is_root(name)
        || !alone!(an_older_sibling_is_not_suspected_however_long_a_call_lasts in AS_INIT)
    {
        return;
    }
    assert_eq!(std::process::id(), 1);
    if release() >= [6, 14] {
        std::fs::write("/proc/sys/kernel/pid_max", "32768").unwrap();
    }
    let mut sibling = Victim::start("");
    let mut victim = Victim::start("ignore=TERM");
    // A lap takes at least a microsecond for each number.
    let kill = Kill::graceful().grace(Duration::from_millis(60));
    let report = kill.verify_within(PATIENCE).tree(victim.pid()).unwrap();
    assert_eq!(report.pids(Outcome::Killed), [victim.pid()]);
    assert!(sibling.answers());
    victim.all_gone();
}

/// A debugger suppresses SIGSTOP. The member runs on, and forks after its children were listed.
#[test]
fn what_a_debugger_lets_a_member_fork_is_killed_or_told() {
    if !is_root("what_a_debugger_lets_a_member_fork_is_killed_or_told")
        || !alone!(what_a_debugger_lets_a_member_fork_is_killed_or_told in OWN_PIDS)
    {
        return;
    }
    // The walk is busy with the others after it has listed the children of the shell.
    const CROWD: &str = "for i in $(seq 100); do sleep 61 & done; echo ready; \
                         while read line; do sleep 61 & done";
    let mut ends = [0; 3];
    for round in 0..runs(10) {
        let mut shell = Command::new("sh")
            .args(["-c", CROWD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        until_ready(&mut shell);
        let pid = Pid::from_raw(shell.id().try_into().unwrap());
        let mut leash = shell.stdin.take().unwrap();
        let (is_seized, seized) = mpsc::channel();
        let debugger = thread::spawn(move || {
            ptrace::seize(pid, ptrace::Options::empty()).unwrap();
            is_seized.send(()).unwrap();
            while !matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(..)) {
                // This sleep waits for nothing: the rounds try one moment of the call after the
                // other.
                thread::sleep(Duration::from_micros(u64::from(round % 10) * 300));
                // It may have been killed meanwhile, so both may fail.
                let _ = leash.write_all(b"fork\n");
                let _ = ptrace::cont(pid, None);
            }
        });
        seized.recv().unwrap();
        let ended = Kill::now().tree(shell.id());
        ends[judge(&ended, shell.stdout.as_ref().unwrap())] += 1;
        debugger.join().unwrap();
    }
    println!("{} killed, {} told, {} false", ends[0], ends[1], ends[2]);
    assert_eq!(ends[2], 0);
}

/// 0: `Ok`, and every writer of the pipe is gone. 1: it was told that more may be left. 2: `Ok` is
/// false.
fn judge(ended: &process_kill::Result<Report>, pipe: &ChildStdout) -> usize {
    match ended {
        Ok(_) if is_hung_up(pipe, MOMENT) => 0,
        Ok(_) => 2,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Unproven, "{e}");
            1
        }
    }
}

/// Whether every writer of a pipe is gone.
fn is_hung_up(pipe: &ChildStdout, within: Duration) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap();
    fds[0]
        .revents()
        .is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// While a tree is killed, its orphans are given to init before they end. They are strangers to every
/// other call.
#[test]
fn threads_that_kill_trees_at_once_do_not_suspect_each_other() {
    if !is_root("threads_that_kill_trees_at_once_do_not_suspect_each_other")
        || !alone!(threads_that_kill_trees_at_once_do_not_suspect_each_other in OWN_PIDS)
    {
        return;
    }
    const TREE: &str = "sleep 61 & sleep 61 & echo ready; wait";
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..runs(20) {
                    let mut shell = Command::new("sh")
                        .args(["-c", TREE])
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap();
                    until_ready(&mut shell);
                    Kill::now().tree(shell.id()).unwrap();
                    shell.wait().unwrap();
                }
            });
        }
    });
}
