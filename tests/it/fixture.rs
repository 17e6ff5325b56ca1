//! Victims, and separate processes for the tests that need one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use process_kill::{Error, Kill, Outcome, Process, ProcessId, Reason, Report};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// How many times as long everything may take. On an emulated processor, all that a test does takes
/// longer. The variable is read when the tests are compiled.
pub const SLOWNESS: u32 = match option_env!("PROCESS_KILL_SLOWNESS") {
    None => 1,
    Some(times) => match u32::from_str_radix(times, 10) {
        Ok(times) => times,
        Err(_) => panic!("PROCESS_KILL_SLOWNESS is not a whole number"),
    },
};

/// The longest wait for something that must happen. After it a test fails, so that it does not
/// hang.
pub const PATIENCE: Duration = Duration::from_secs(30).saturating_mul(SLOWNESS);

/// A clock that stands while this thread is ready to run and no processor is free for it. On a busy
/// machine that can be most of the time.
pub struct FairClock {
    begun: Instant,
    starved: Duration,
}

impl FairClock {
    pub fn start() -> FairClock {
        FairClock {
            begun: Instant::now(),
            starved: FairClock::starved(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        let starved = FairClock::starved() - self.starved;
        self.begun.elapsed().saturating_sub(starved)
    }

    /// Zero if the kernel does not tell.
    fn starved() -> Duration {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let nanoseconds = told.split_whitespace().nth(1).map(|n| n.parse().unwrap());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }
}

/// A tree of stubborn processes; see `tests/bin/stubborn.rs`. Dropping this ends all of them.
pub struct Victim {
    child: Child,
    leash: Option<ChildStdin>,
    out: BufReader<ChildStdout>,
    /// Pid and port of each, in the order in which they got ready. The order of the specification
    /// may differ.
    pub ready: Vec<(u32, Option<u16>)>,
}

/// The command for a stubborn process. The caller adds arguments, directory or environment.
pub fn stubborn(spec: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stubborn"));
    command.env("STUBBORN", spec);
    command
}

impl Victim {
    pub fn start(spec: &str) -> Victim {
        Victim::spawn(stubborn(spec))
    }

    /// Returns when every process of the tree is ready.
    pub fn spawn(command: Command) -> Victim {
        Victim::try_spawn(command).unwrap_or_else(|line| panic!("{line}"))
    }

    /// A process that gets the pid of one that was reaped. `None` if another process has taken the
    /// pid.
    pub fn successor(pid: u32) -> Option<Victim> {
        match Victim::try_spawn(stubborn(&format!("reuse={pid}"))) {
            Ok(victim) => Some(victim),
            Err(line) => {
                assert_eq!(line, "taken");
                None
            }
        }
    }

    /// `Err` holds the line of a process that says something else than `ready`.
    pub fn try_spawn(mut command: Command) -> Result<Victim, String> {
        let spec = command
            .get_envs()
            .find_map(|(key, value)| (key == "STUBBORN").then_some(value?));
        let spec = spec.expect("a stubborn command").to_str().unwrap();
        let count = 1 + spec
            .split_whitespace()
            .filter(|word| word.ends_with('{'))
            .count();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut victim = Victim {
            leash: child.stdin.take(),
            out: BufReader::new(child.stdout.take().unwrap()),
            child,
            ready: Vec::new(),
        };
        for _ in 0..count {
            let line = victim.line();
            let Some(words) = line.strip_prefix("ready ") else {
                return Err(line);
            };
            let mut words = words.split(' ');
            let pid = words.next().unwrap().parse().unwrap();
            victim
                .ready
                .push((pid, words.next().map(|port| port.parse().unwrap())));
        }
        Ok(victim)
    }

    /// The first process, a child of the test.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All processes, the first one included, ascending.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.ready.iter().map(|&(pid, _)| pid).collect();
        pids.sort_unstable();
        pids
    }

    /// All processes except the first one, ascending.
    pub fn others(&self) -> Vec<u32> {
        self.pids()
            .into_iter()
            .filter(|&pid| pid != self.pid())
            .collect()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The next line that a process of the tree says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        // A line is one write, so readable data holds at least one line.
        if self.out.buffer().is_empty() {
            readable(self.out.get_ref(), PATIENCE);
        }
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Whether a victim of one process still runs code. A victim with a pending SIGKILL does not.
    pub fn answers(&mut self) -> bool {
        let Some(leash) = &mut self.leash else {
            return false;
        };
        leash.write_all(b"ping\n").is_ok() && self.line().starts_with("pong")
    }

    /// Lets go of all: the processes that still run code exit.
    pub fn let_go(&mut self) {
        self.leash = None;
    }

    /// Waits for the end-of-file that says that the whole tree is gone. This uses none of the
    /// crate's code.
    pub fn all_gone(&mut self) {
        self.last_words();
    }

    /// As [`Victim::all_gone`]. Returns what the processes said until then.
    pub fn last_words(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        let mut words = String::new();
        let mut said = [0; 4096];
        loop {
            if self.out.buffer().is_empty() {
                readable(
                    self.out.get_ref(),
                    end.saturating_duration_since(Instant::now()),
                );
            }
            match self.out.read(&mut said).unwrap() {
                0 => return words,
                length => words += std::str::from_utf8(&said[..length]).unwrap(),
            }
        }
    }
}

impl Victim {
    /// Whether the whole tree is gone. It is told as in [`Victim::all_gone`].
    pub fn is_all_gone(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let mut said = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.out.get_ref().as_fd(), PollFlags::POLLIN)];
            let is_silent = self.out.buffer().is_empty()
                && poll(&mut fds, PollTimeout::try_from(left).unwrap()) == Ok(0);
            if is_silent {
                return false;
            }
            if self.out.read(&mut said).unwrap() == 0 {
                return true;
            }
        }
    }

    /// Waits until the first process is a zombie, and does not reap it.
    pub fn until_zombie(&self) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap());
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.leash = None;
        // These numbers still belong to the tree: an exited child keeps its pid until it is reaped,
        // and orphans that are gone have closed the pipe.
        let _ = self.child.kill();
        for pid in self.others() {
            if std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.windows(9).any(|w| w == b"STUBBORN="))
            {
                let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Waits until there is data to read, or end-of-file.
pub fn readable(fd: impl AsFd, within: Duration) {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap();
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => panic!("nothing was said within {within:?}"),
            Ok(_) => return,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// The states of all threads of a process, the leader's first. Empty if the process was reaped.
pub fn states(pid: u32) -> Vec<char> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut tids: Vec<u32> = tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    tids.sort_unstable();
    let state = |tid: u32| {
        let stat = std::fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
        let end = stat.iter().rposition(|&b| b == b')')?;
        stat.get(end + 2).map(|&state| char::from(state))
    };
    tids.into_iter().filter_map(state).collect()
}

/// Whether this program holds a pidfd of the process. If so, a call of another thread is working on
/// it.
pub fn is_pinned(pid: u32) -> bool {
    let line = format!("Pid:\t{pid}");
    std::fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        // A descriptor may be closed before this reads its entry.
        .filter_map(|fd| std::fs::read_to_string(fd.unwrap().path()).ok())
        .any(|info| info.lines().any(|l| l == line))
}

/// Looks again and again until `done`. Fails the test if that takes too long.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::yield_now();
    }
}

/// True in a separate process that runs this test alone. Elsewhere it starts that process through
/// `wrapper` (such as `unshare --pid --fork`), checks that the test passes, and returns false.
pub fn run_alone(test: &str, wrapper: &[&str]) -> bool {
    run_alone_within(test, wrapper, 120)
}

/// As [`run_alone`]. The process is killed after so many seconds, [`SLOWNESS`] times.
pub fn run_alone_within(test: &str, wrapper: &[&str], seconds: u32) -> bool {
    const INSIDE: &str = "PROCESS_KILL_TEST_ALONE";
    let test = test.strip_prefix("it::").unwrap_or(test);
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return true;
    }
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", &(seconds * SLOWNESS).to_string()])
        .args(wrapper)
        .arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let output = command
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // A run that finds no such test succeeds too.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}\n{said}",
        output.status
    );
    // The first line follows the name of the test.
    let name = format!("test {test} ... ");
    let lines = said
        .lines()
        .map(|line| line.strip_prefix(&name).unwrap_or(line));
    for line in lines.filter(|line| line.starts_with("skipped") || line.starts_with("swept")) {
        println!("{line}");
    }
    false
}

/// `alone!(name_of_this_test, wrapper..)` or `alone!(name_of_this_test in WRAPPER)`: see [`run_alone`].
macro_rules! alone {
    ($test:ident $(, $wrapper:expr)* $(,)?) => {
        $crate::fixture::run_alone(concat!(module_path!(), "::", stringify!($test)), &[$($wrapper),*])
    };
    ($test:ident in $wrapper:expr) => {
        $crate::fixture::run_alone(concat!(module_path!(), "::", stringify!($test)), $wrapper)
    };
}
pub(crate) use alone;

/// Whether a test that needs root can run. Says so if it cannot.
pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: {test} needs root");
    }
    root
}

/// The version of the kernel: its first two numbers.
pub fn release() -> [u32; 2] {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    [(); 2].map(|()| numbers.next().unwrap_or(0))
}

/// Runs `f` in a thread that has the rights of `nobody`. The rest of the program keeps its own
/// rights.
pub fn as_nobody<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The raw system call changes the calling thread only. setresuid(3) changes all
            // threads.
            const NOBODY: libc::uid_t = 65534;
            // SAFETY: three integers.
            let rc = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
            f()
        });
        thread.join().unwrap()
    })
}

/// Runs `f` in a thread in which these system calls answer `errno`. The filter applies only to that
/// thread and its children.
pub fn filtered<T: Send>(calls: &[i64], errno: i32, f: impl FnOnce() -> T + Send) -> T {
    let program = filter(calls, errno);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            f()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A filter with which these system calls answer `errno`.
pub fn filter(calls: &[i64], errno: i32) -> BpfProgram {
    let filter = SeccompFilter::new(
        calls.iter().map(|&call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    BpfProgram::try_from(filter.unwrap()).unwrap()
}

/// Runs `f` as on Linux before 5.3, which has no system calls for pidfds. A filter that forbids
/// them has the same effect.
pub fn without_pidfds(f: impl Fn() + Sync) {
    for errno in [libc::ENOSYS, libc::EPERM] {
        filtered(
            &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal],
            errno,
            &f,
        );
    }
}

/// Waits until a thread of this program sleeps in the given system call.
pub fn asleep_in(tid: Pid, call: i64) {
    until_asleep(&current_call(tid), call);
}

/// The file that tells in which system call a thread of this program is.
pub fn current_call(tid: Pid) -> File {
    File::open(format!("/proc/self/task/{tid}/syscall")).unwrap()
}

/// As [`asleep_in`], for a file of [`current_call`]. Opens nothing.
pub fn until_asleep(current: &File, call: i64) {
    let call = call.to_string();
    eventually("asleep", || {
        let mut now = [0; 8];
        let length = current.read_at(&mut now, 0).unwrap();
        now[..length].split(|&b| b == b' ').next() == Some(call.as_bytes())
    });
}

/// What became of each target, in order.
pub fn outcomes(report: &Report) -> Vec<(u32, Outcome)> {
    report.iter().collect()
}

/// The survivors and their reasons, in order.
pub fn reasons(error: &Error) -> Vec<(u32, Reason)> {
    let survivors = error.survivors().iter();
    survivors.map(|s| (s.pid(), s.reason())).collect()
}

/// SIGKILL at once, and enough time to die on a machine that is busy with other things.
pub fn patient() -> Kill {
    Kill::now().verify_within(PATIENCE)
}

/// Puts a copy of the stubborn program there. Another process writes the copy. If this program
/// wrote it, a child that another thread forks at that time would inherit the open descriptor, and
/// the copy could not be executed.
pub fn copy_stubborn(to: &Path) {
    let mut cp = Command::new("cp");
    cp.arg(env!("CARGO_BIN_EXE_stubborn")).arg(to);
    assert!(cp.status().unwrap().success());
}

/// Sends a signal to one thread of this program.
pub fn signal_thread(tid: Pid, signal: libc::c_int) {
    // SAFETY: three integers.
    let rc = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid.as_raw(), signal) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

/// How many descriptors this program has open.
pub fn open_descriptors() -> usize {
    // The listing itself uses one.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// A tree that every one of the [`finders`] finds. It must begin with `setsid`.
pub fn findable(spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.arg("findable").current_dir("/proc");
    command.env("PROCESS_KILL_FINDABLE", "yes");
    Victim::spawn(command)
}

/// What each finder says of the tree of `root`. No other process may be started in the same way.
pub fn finders(root: u32) -> Vec<process_kill::Result<Vec<u32>>> {
    let pids = |ids: Vec<ProcessId>| ids.iter().map(ProcessId::pid).collect();
    let one = |id: Option<ProcessId>| id.map(|id| id.pid()).into_iter().collect();
    vec![
        process_kill::pids_matching("^.*/stubborn findable$"),
        process_kill::descendant_pids(root),
        process_kill::descendants(root).map(pids),
        process_kill::pids_in_group(root),
        process_kill::pids_in_session(root),
        process_kill::pids_with_env("PROCESS_KILL_FINDABLE", "yes"),
        process_kill::pids_with_cwd_under(Path::new("/proc")),
        process_kill::pids_in_directory(Path::new("/proc")),
        process_kill::processes_where(|p| p.parent() == root).map(pids),
        ProcessId::of(root).map(one),
        Process::open(root).map(|process| one(process.map(|p| p.id()))),
    ]
}

/// A PID namespace of which the test is init, for [`run_alone`]; root only.
pub const AS_INIT: &[&str] = &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// A PID namespace with its own /proc, for [`run_alone`]; root only.
pub const OWN_PIDS: &[&str] = &[
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    "\"$@\"; exit $?",
    "sh",
];

/// More runs if the tests are to count failures, and not only to show that there are none.
pub fn runs(few: u32) -> u32 {
    let asked = std::env::var("PROCESS_KILL_RUNS");
    asked.map_or(few, |runs| runs.parse().unwrap())
}
