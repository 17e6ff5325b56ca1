//! Calls end in time and say the truth, for sets of any size and members in any state.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::panic::{UnwindSafe, catch_unwind};
use std::process::{Command, Stdio, id};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use process_kill::child::{CommandExt, Group, Limits};
use process_kill::{
    Coverage, Kill, Outcome, Reason, Report, Result, descendant_pids, pids_matching, pids_with_env,
    processes_where, wait_until_gone,
};

use super::aim::{sorted, ways};
use super::fixture::{
    OWN_PIDS, PATIENCE, SLOWNESS, Victim, alone, as_nobody, eventually, findable, is_root, patient,
    reasons, runs, states, stubborn, without_pidfds,
};
use super::proc_missing::remount_proc;
use super::tree::unmoved;

/// The time that a call gets if it will not succeed.
const MOMENT: Duration = Duration::from_millis(100);

/// A call that takes this long does not end. The limit is much longer than a call may take.
const HANGS: Duration = Duration::from_secs(5).saturating_mul(SLOWNESS);

/// What `f` returns, and how long it took. A call that does not end fails the test and leaves its
/// thread behind, so the test must run in a separate process.
fn timed<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> (T, Duration) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let begun = Instant::now();
        let result = f();
        // If the call took too long, nothing receives the result any more.
        drop(tell.send((result, begun.elapsed())));
    });
    let ended = told.recv_timeout(HANGS);
    ended.unwrap_or_else(|e| panic!("{what} has not ended after {HANGS:?}: {e}"))
}

/// The number in the next line. The line is `word NUMBER`.
fn number(victim: &mut Victim, word: &str) -> u32 {
    let line = victim.line();
    let number = line.strip_prefix(word).and_then(|n| n.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{line}"))
}

/// As [`states`], for an init that waits for its namespace. Some kernels show that wait as idle (I),
/// others as sleep (S).
fn states_of_init(pid: u32) -> Vec<char> {
    let states = states(pid).into_iter();
    states
        .map(|state| if state == 'I' { 'S' } else { state })
        .collect()
}

#[test]
fn a_leaderless_process_stuck_exiting_holds_up_no_search() {
    let name = "a_leaderless_process_stuck_exiting_holds_up_no_search";
    if !is_root(name) || !alone!(a_leaderless_process_stuck_exiting_holds_up_no_search in OWN_PIDS)
    {
        return;
    }
    let mut victim = findable("stuck-init=leaderless");
    let stuck = number(&mut victim, "stuck");
    // The leader has exited, and the last thread waits in the kernel.
    eventually("stuck", || states_of_init(stuck) == ['Z', 'S']);
    let (found, _) = timed("Candidate::env", move || {
        let mut env = None;
        let found = processes_where(|candidate| {
            if candidate.pid() == stuck {
                env = Some(candidate.env("PROCESS_KILL_FINDABLE").ok().flatten());
            }
            false
        });
        (found.unwrap(), env)
    });
    // This process has no memory from which the environment could be read.
    assert_eq!(found, (vec![], Some(None)));
    let (found, _) = timed("pids_with_env", || {
        pids_with_env("PROCESS_KILL_FINDABLE", "yes").unwrap()
    });
    assert_eq!(found, [victim.pid()]);
    assert_eq!(states_of_init(stuck), ['Z', 'S']);
}

#[test]
fn processes_that_are_stuck_exiting_are_not_waited_for() {
    let name = "processes_that_are_stuck_exiting_are_not_waited_for";
    if !is_root(name) || !alone!(processes_that_are_stuck_exiting_are_not_waited_for in OWN_PIDS) {
        return;
    }
    let mut stuck = Vec::new();
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut holder = Victim::start("stuck-init");
        stuck.push(number(&mut holder, "stuck"));
        holders.push(holder);
    }
    for &pid in &stuck {
        eventually("stuck", || states_of_init(pid) == ['S']);
    }
    let mut victim = findable("");
    let (found, scan) = timed("pids_matching", || pids_matching("stubborn findable$"));
    assert_eq!(found.unwrap(), victim.pids());
    let (found, by_env) = timed("pids_with_env", || {
        pids_with_env("PROCESS_KILL_FINDABLE", "yes")
    });
    assert_eq!(found.unwrap(), victim.pids());
    let begun = Instant::now();
    let kill = Kill::now().verify_within(Duration::from_millis(200));
    let killed = kill.matching("stubborn findable$");
    let kill = begun.elapsed();
    println!("3 stuck: pids_matching {scan:?}, pids_with_env {by_env:?}, matching {kill:?}");
    assert_eq!(killed.unwrap().pids(Outcome::Killed), victim.pids());
    victim.all_gone();
    for pid in stuck {
        assert_eq!(states_of_init(pid), ['S']);
    }
    let scans = scan.max(by_env);
    assert!(
        scans < Duration::from_millis(500) * SLOWNESS,
        "a scan took {scans:?}"
    );
    assert!(
        kill < Duration::from_secs(1) * SLOWNESS,
        "the kill took {kill:?}"
    );
}

/// Runs `work` in a child process whose main thread has exited. Checks that `work` passes.
fn without_main_thread(work: impl FnOnce() + Send + UnwindSafe + 'static) {
    // SAFETY: the test runs in a process of its own, in which no other thread holds a lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            thread::spawn(move || {
                eventually("the main thread exits", || states(id())[0] == 'Z');
                let has_failed = catch_unwind(work).is_err();
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(has_failed.into()) };
            });
            // SAFETY: ends this thread alone; the other one owns nothing of its stack.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("the main thread has exited");
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
}

#[test]
fn a_program_whose_main_thread_has_exited_kills_as_any_other() {
    if !alone!(a_program_whose_main_thread_has_exited_kills_as_any_other in OWN_PIDS) {
        return;
    }
    without_main_thread(|| {
        let mut failed = Vec::new();
        let mut kill = |what, spec, kill: &dyn Fn(u32) -> Result<Report>| {
            let mut victim = Victim::start(spec);
            match kill(victim.pid()) {
                Ok(report) => {
                    assert_eq!(report.pids(Outcome::Killed).len(), victim.ready.len());
                    victim.all_gone();
                }
                Err(e) => failed.push(format!("{what}: {e}")),
            }
        };
        let now = || Kill::now().verify_within(PATIENCE);
        kill("pids", "", &|pid| now().pids(&[pid]));
        kill("groups", "setpgid { }", &|pid| now().groups(&[pid]));
        kill("tree", "{ }", &|pid| now().tree(pid));
        kill("a tree that leads a group", "setpgid { }", &|pid| {
            now().tree(pid)
        });
        kill("children", "setsid { }", &|_| now().children());
        let mut managed = Command::new("sleep")
            .arg("300")
            .spawn_managed(Group::New)
            .unwrap();
        match managed.stop(&now()) {
            Ok(report) => assert_eq!(report.pids(Outcome::Killed), [managed.id()]),
            Err(e) => failed.push(format!("stop: {e}")),
        }
        assert!(failed.is_empty(), "{failed:#?}");
    });
}

/// How many of these processes are not gone.
fn alive(pids: &[u32]) -> usize {
    // A process in state X is being reaped at this moment.
    let is_gone = |pid: &&u32| states(**pid).iter().all(|state| matches!(state, 'Z' | 'X'));
    pids.len() - pids.iter().filter(is_gone).count()
}

/// Victims started with `spec`, and the pids of all, the root first.
fn family(spec: &str, size: usize) -> (Victim, Vec<u32>) {
    let victim = Victim::start(spec);
    let mut pids = vec![victim.pid()];
    pids.extend(descendant_pids(victim.pid()).unwrap());
    assert_eq!(pids.len(), size);
    (victim, pids)
}

/// What `f` returns, how long it took, and how much processor time the calling thread used.
fn measured<T>(f: impl FnOnce() -> T) -> (T, Duration, Duration) {
    let used = || {
        // SAFETY: all fields are integers, for which zero is valid.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        // SAFETY: a valid place for the time.
        let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        assert_eq!(rc, 0);
        let [s, ns] = [time.tv_sec, time.tv_nsec].map(|n| u64::try_from(n).unwrap());
        Duration::from_secs(s) + Duration::from_nanos(ns)
    };
    let (begun, before) = (Instant::now(), used());
    let result = f();
    (result, begun.elapsed(), used() - before)
}

/// Kills two equal sets, one by its pids and one as a tree, and compares the costs.
///
/// For each member, a tree needs what a kill by pid needs, and also a stop, a look at each thread's
/// state and two reads of the member's children.
fn a_tree_costs_little_more_than_its_pids(spec: &str, size: usize) {
    let (mut victim, pids) = family(spec, size);
    let (threads, _, look) = measured(|| pids.iter().map(|&pid| states(pid).len()).sum::<usize>());
    let (report, by_pid, by_pid_used) = measured(|| patient().pids(&pids).unwrap());
    assert_eq!(report.pids(Outcome::Killed).len(), size);
    victim.all_gone();
    drop(victim);

    let (mut victim, pids) = family(spec, size);
    let (ended, as_tree, as_tree_used) = measured(|| patient().tree(victim.pid()));
    println!("{spec}: by pid {by_pid:?}, as a tree {as_tree:?}");
    println!("{threads} looks {look:?}, by pid {by_pid_used:?}, as a tree {as_tree_used:?} of CPU");
    match ended {
        Ok(report) => assert_eq!(report.pids(Outcome::Killed).len(), size),
        Err(e) => panic!(
            "{} alive after {as_tree:?}: {:.200}",
            alive(&pids),
            e.to_string()
        ),
    }
    assert_eq!(alive(&pids), 0);
    victim.all_gone();
    // The elapsed time depends on what else the machine does. It is printed above.
    let limit = 4 * (by_pid_used + look);
    assert!(as_tree_used <= limit, "{as_tree_used:?} of {limit:?}");
}

#[test]
fn a_process_of_ten_thousand_threads_is_killed_as_a_tree() {
    if !alone!(a_process_of_ten_thousand_threads_is_killed_as_a_tree in OWN_PIDS) {
        return;
    }
    a_tree_costs_little_more_than_its_pids("threads=9999", 1);
}

#[test]
fn a_tree_of_five_thousand_is_killed() {
    if !alone!(a_tree_of_five_thousand_is_killed in OWN_PIDS) {
        return;
    }
    a_tree_costs_little_more_than_its_pids("wide=4999", 5000);
}

/// After this call, this program may have `limit` descriptors.
fn limit_descriptors(limit: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
}

/// Kills these with a small number of descriptors, and checks that all of them are gone.
fn all_go(limit: u64, pids: &[u32], kill: impl FnOnce() -> Result<Report>) {
    let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    limit_descriptors(limit);
    let ended = kill();
    limit_descriptors(before);
    let (alive, all) = (alive(pids), pids.len());
    match ended {
        Ok(report) => assert_eq!((report.len(), alive), (all, 0)),
        Err(e) => panic!("{alive} of {all} alive: {:.200}", e.to_string()),
    }
}

const FEW: u64 = 24;

#[test]
fn a_tree_larger_than_the_descriptor_table_is_killed() {
    if !alone!(a_tree_larger_than_the_descriptor_table_is_killed in OWN_PIDS) {
        return;
    }
    let (mut victim, pids) = family("wide=39", 40);
    all_go(FEW, &pids, || patient().tree(pids[0]));
    victim.all_gone();
}

#[test]
fn a_group_larger_than_the_descriptor_table_is_killed() {
    if !alone!(a_group_larger_than_the_descriptor_table_is_killed in OWN_PIDS) {
        return;
    }
    let (mut victim, pids) = family("setpgid wide=39", 40);
    all_go(FEW, &pids, || patient().groups(&[pids[0]]));
    victim.all_gone();
}

/// Most programs may have 1024 descriptors.
#[test]
fn a_group_larger_than_the_usual_descriptor_table_is_killed() {
    if !alone!(a_group_larger_than_the_usual_descriptor_table_is_killed in OWN_PIDS) {
        return;
    }
    let (mut victim, pids) = family("setpgid wide=1099", 1100);
    all_go(1024, &pids, || patient().groups(&[pids[0]]));
    victim.all_gone();
}

#[test]
fn children_more_than_the_descriptor_table_holds_are_killed() {
    if !alone!(children_more_than_the_descriptor_table_holds_are_killed in OWN_PIDS) {
        return;
    }
    let mut victim = Victim::start("wide=19");
    for _ in 0..20 {
        // SAFETY: the child makes async-signal-safe calls only.
        if let ForkResult::Child = unsafe { fork() }.unwrap() {
            // The child ends with the PID namespace at the latest.
            loop {
                nix::unistd::pause();
            }
        }
    }
    let pids = descendant_pids(id()).unwrap();
    assert_eq!(pids.len(), 40);
    all_go(FEW, &pids, || patient().children());
    victim.all_gone();
}

#[test]
fn matches_more_than_the_descriptor_table_holds_are_killed() {
    if !alone!(matches_more_than_the_descriptor_table_holds_are_killed in OWN_PIDS) {
        return;
    }
    let mut victim = findable("wide=39");
    let mut pids = vec![victim.pid()];
    pids.extend(descendant_pids(victim.pid()).unwrap());
    assert_eq!(pids.len(), 40);
    all_go(FEW, &pids, || patient().matching("stubborn findable$"));
    victim.all_gone();
}

/// Reads what the victims say on standard error. All of them inherit it.
struct Hearing(File);

impl Hearing {
    fn of(command: &mut Command) -> Hearing {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        command.stderr(writer);
        Hearing(reader.into())
    }

    /// Whether there is already the end-of-file that says that all are gone.
    fn is_over(&mut self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::ZERO).unwrap();
        let mut said = String::new();
        ready == 1 && self.0.read_to_string(&mut said).is_ok() && {
            assert_eq!(said, "");
            true
        }
    }
}

/// The search of a tree can take longer than the grace. Parents that obey SIGTERM then exit before
/// the search has seen which children they have.
#[test]
fn a_search_that_outlasts_the_grace_is_no_proof() {
    if !alone!(a_search_that_outlasts_the_grace_is_no_proof in OWN_PIDS) {
        return;
    }
    for _ in 0..runs(1) {
        let mut command = stubborn("brood=1500");
        let mut hearing = Hearing::of(&mut command);
        let victim = Victim::spawn(command);
        let pids = descendant_pids(victim.pid()).unwrap();
        assert_eq!(pids.len(), 3000);
        assert!(!hearing.is_over());
        let begun = Instant::now();
        let ended = Kill::graceful()
            .grace(Duration::from_millis(1))
            .tree(victim.pid());
        let is_over = hearing.is_over();
        let (alive, took) = (alive(&pids), begun.elapsed());
        match ended {
            Ok(report) => assert!(is_over, "Ok of {}, {alive} alive, {took:?}", report.len()),
            Err(e) => println!(
                "{alive} alive, {took:?}, and it says so: {:.200}",
                e.to_string()
            ),
        }
    }
}

/// A dead thread keeps its process until the thread's tracer has waited for the thread.
fn a_dead_thread_that_nobody_waits_for() {
    let mut victim = Victim::start("threads=1");
    let pid = victim.pid();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tid = tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .find(|&tid: &u32| tid != pid)
        .unwrap();
    let thread = Pid::from_raw(tid.try_into().unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    eventually("both are dead", || states(pid) == ['Z', 'Z']);
    let seen = [
        wait_until_gone(&[pid], Duration::ZERO),
        Kill::now().verify_within(MOMENT).pids(&[pid]),
    ];
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    for ended in seen {
        let by = id();
        let error = ended.unwrap_err();
        assert_eq!(reasons(&error), [(pid, Reason::Traced { by })]);
    }
    wait_until_gone(&[pid], PATIENCE).unwrap();
    victim.all_gone();
}

#[test]
fn a_dead_thread_that_its_tracer_does_not_wait_for_is_traced() {
    if is_root("a_dead_thread_that_its_tracer_does_not_wait_for_is_traced") {
        a_dead_thread_that_nobody_waits_for();
    }
}

#[test]
fn a_dead_thread_is_traced_without_pidfds_too() {
    if is_root("a_dead_thread_is_traced_without_pidfds_too") {
        without_pidfds(a_dead_thread_that_nobody_waits_for);
    }
}

#[test]
fn no_byte_in_the_pipe_is_lost_without_drain_time() {
    const BYTES: usize = 500_000;
    let empty = || {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; exec head -c {BYTES} /dev/zero")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn_managed(Group::New)
            .unwrap();
        let stdout = child.child().stdout.as_ref().unwrap();
        fcntl(stdout, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let stdin = child.child().stdin.as_mut().unwrap();
        stdin.write_all(b"go\n").unwrap();
        // The child exits although nothing was read, because the pipe holds all of its output.
        let pid = Id::Pid(Pid::from_raw(child.id().try_into().unwrap()));
        waitid(pid, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let limits = Limits::new().drain(Duration::ZERO);
        let output = child.output(&limits).unwrap();
        (output.stdout.len(), output.complete)
    };
    let read = [empty(), empty(), empty()];
    assert_eq!(read, [(BYTES, true); 3]);
    without_pidfds(|| assert_eq!(empty(), (BYTES, true)));
}

/// A process whose leader has exited shows as a zombie, but its other threads run. It is stopped
/// like any other process before the first of its children is killed, even if there is no time to
/// see that it has stopped.
#[test]
fn a_leaderless_respawner_is_stopped_before_its_children_are_killed() {
    if !alone!(a_leaderless_respawner_is_stopped_before_its_children_are_killed in OWN_PIDS) {
        return;
    }
    // The process needs a moment to see that its child has ended. It does not get that moment in
    // every run.
    for _ in 0..runs(15) {
        // The child that it would start again is the newest process. It is killed first, long
        // before its parent.
        let mut victim = Victim::start("{ wide=300 respawn{ } leader-exits }");
        let pids = descendant_pids(victim.pid()).unwrap();
        assert_eq!(pids.len(), 302);
        eventually("the leader exits", || states(pids[0])[0] == 'Z');
        let now = Kill::now().verify_within(Duration::ZERO);
        let found = match now.tree(victim.pid()) {
            Ok(report) => report.len(),
            Err(e) => e.survivors().len() + e.report().map_or(0, Report::len),
        };
        let all = pids.len() + 1;
        if found < all {
            println!("skipped: {found} of {all} were found without time");
            continue;
        }
        // All of them got SIGKILL. This line is the end-of-file, or what a new child says.
        assert_eq!(victim.line(), "");
    }
}

/// A kill by a user who may not see every process. The group of the root has a mate whose parent is
/// hidden, so nothing tells whether that parent is in the group too.
#[test]
fn a_hidden_parent_of_a_group_mate_holds_up_no_kill() {
    let name = "a_hidden_parent_of_a_group_mate_holds_up_no_kill";
    if !is_root(name) || !alone!(a_hidden_parent_of_a_group_mate_holds_up_no_kill in OWN_PIDS) {
        return;
    }
    remount_proc(2);
    for kill in ways() {
        let mut command = stubborn("{ }");
        command.uid(65534).process_group(0);
        let mut root = Victim::spawn(command);
        let pid = root.pid();
        // After `nobody` this process may not be traced, so it is hidden from its own user too.
        let mut command = stubborn("nobody { }");
        command.process_group(pid.try_into().unwrap());
        let mut mates = Victim::spawn(command);
        let tree = kill.clone();
        let (report, _) = unmoved(&mates.pids(), || {
            timed("a tree", move || as_nobody(|| tree.tree(pid)))
        });
        let report = report.unwrap();
        assert_eq!(
            sorted(report.iter().map(|(pid, _)| pid).collect()),
            root.pids()
        );
        assert_eq!(report.coverage(), Coverage::BestEffort);
        root.all_gone();
        // The mate is a member of the job.
        let (result, _) = timed("a job", move || as_nobody(|| kill.jobs(&[pid])));
        assert!(result.is_err() || !matches!(states(mates.others()[0])[..], ['S' | 'R']));
        mates.let_go();
        mates.all_gone();
    }
}

/// Kills jobs and groups that have a member which /proc hides. Checks that no call is falsely `Ok`.
fn jobs_with_a_hidden_member_are_killed() {
    for is_root in [false, true] {
        for kill in ways() {
            let mut command = stubborn("exit");
            command.uid(65534).process_group(0);
            let mut leader = Victim::spawn(command);
            let pgid = leader.pid();
            let mut command = stubborn(if is_root { "" } else { "nobody ignore=TERM" });
            command.process_group(pgid.try_into().unwrap());
            let hidden = Victim::spawn(command);
            leader.child().wait().unwrap();
            for what in ["job", "group"] {
                let ended = as_nobody(|| match what {
                    "job" => kill.jobs(&[pgid]),
                    _ => kill.groups(&[pgid]),
                });
                let states = states(hidden.pid());
                println!("root's {is_root} {kill:?} {what}: {ended:?} {states:?}");
                let is_gone = matches!(states[..], [] | ['Z']);
                assert!(ended.is_err() || is_gone, "{what}: {ended:?}");
            }
        }
    }
}

/// A member that /proc hides cannot be verified by itself, but the kernel tells that the group is not
/// empty. [`Kill::groups`] is `Unproven` here.
#[test]
fn a_job_with_a_hidden_member_is_never_falsely_ok() {
    let name = "a_job_with_a_hidden_member_is_never_falsely_ok";
    if !is_root(name) || !alone!(a_job_with_a_hidden_member_is_never_falsely_ok in OWN_PIDS) {
        return;
    }
    remount_proc(2);
    jobs_with_a_hidden_member_are_killed();
}

/// Without the fork counter nothing tells that the number of a group whose leader was reaped is still
/// its own.
#[test]
fn a_job_with_a_hidden_member_is_never_falsely_ok_without_a_fork_counter() {
    let name = "a_job_with_a_hidden_member_is_never_falsely_ok_without_a_fork_counter";
    if !is_root(name)
        || !alone!(a_job_with_a_hidden_member_is_never_falsely_ok_without_a_fork_counter in OWN_PIDS)
    {
        return;
    }
    remount_proc(2);
    let (nothing, counter) = (None::<&str>, "/proc/sys/kernel/ns_last_pid");
    mount(
        Some("/dev/null"),
        counter,
        nothing,
        MsFlags::MS_BIND,
        nothing,
    )
    .unwrap();
    jobs_with_a_hidden_member_are_killed();
}
