//! Cheap processes that do nothing, in a PID namespace of their own: so their number is exact.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pause, setpgid};
use process_kill::descendant_pids;

/// Runs `f` in a new PID namespace with its own /proc. Its init is a shell, which reaps orphans.
/// For that the program starts itself again there.
pub(crate) fn in_own_pids(f: impl FnOnce()) -> ExitCode {
    const INSIDE: &str = "PROCESS_KILL_OWN_PIDS";
    let args = Vec::from_iter(std::env::args());
    if args.get(1).is_some_and(|arg| arg == Crowd::ARG) {
        Crowd::serve();
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_some() {
        f();
        return ExitCode::SUCCESS;
    }
    // The first command takes pid 2, which is the parent of kernel threads outside.
    let shell = ["sh", "-c", "(:); \"$@\"; exit $?", "sh"];
    let run = |args: &[String]| {
        let mut inside = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            inside.arg("--map-root-user");
        }
        inside.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        let status = inside.args(shell).args(args).env(INSIDE, "").status();
        status.is_ok_and(|status| status.success())
    };
    if !run(&["true".into()]) {
        println!("skipped: unshare(1) makes no PID namespace here");
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A forked child that is asleep. Dropping it kills and reaps the child.
pub(crate) struct Idle(Pid);

impl Idle {
    /// Returns when the child is asleep.
    pub(crate) fn start() -> Idle {
        Idle::with(|| {})
    }

    /// As [`Idle::start`]. The child does `first` before it sleeps.
    fn with(first: impl FnOnce()) -> Idle {
        // SAFETY: this program has only one thread, and the child has only one too. So no lock is
        // held.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                first();
                loop {
                    pause();
                }
            }
            ForkResult::Parent { child } => {
                let idle = Idle(child);
                while stat(idle.pid()).is_none_or(|(state, _)| state != 'S') {
                    std::thread::yield_now();
                }
                idle
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // The child is still ours, so its number is too. A child that was killed before is a
        // zombie.
        kill(self.0, Signal::SIGKILL).unwrap();
        waitpid(self.0, None).unwrap();
    }
}

/// Idle processes in generations.
pub(crate) struct Tree {
    root: Idle,
    /// Parents first, without the root.
    pub(crate) descendants: Vec<u32>,
}

impl Tree {
    /// `[9, 10]`: the root has 9 children, and each of these has 10.
    pub(crate) fn start(generations: &[usize]) -> Tree {
        Tree::with(generations, || {})
    }

    /// As [`Tree::start`]. The root leads a process group.
    pub(crate) fn group(generations: &[usize]) -> Tree {
        Tree::with(generations, || {
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
        })
    }

    fn with(generations: &[usize], first: impl FnOnce()) -> Tree {
        let root = Idle::with(|| {
            first();
            fork_all(generations);
        });
        let (mut siblings, mut expected) = (1, 0);
        for children in generations {
            siblings *= children;
            expected += siblings;
        }
        loop {
            let descendants = descendant_pids(root.pid()).unwrap();
            if descendants.len() == expected {
                return Tree { root, descendants };
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn root(&self) -> u32 {
        self.root.pid()
    }

    /// All of them, the root first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.root()];
        pids.extend(&self.descendants);
        pids
    }
}

fn fork_all(generations: &[usize]) {
    if let [children, rest @ ..] = generations {
        for _ in 0..*children {
            std::mem::forget(Idle::with(|| fork_all(rest)));
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for pid in &self.descendants {
            // An error says that it is gone.
            let _ = kill(Pid::from_raw((*pid).try_into().unwrap()), Signal::SIGKILL);
        }
        // Their end must not disturb what comes next. Init reaps them once they are orphans.
        kill(self.root.0, Signal::SIGKILL).unwrap();
        for &pid in &self.descendants {
            while stat(pid).is_some() {
                std::thread::yield_now();
            }
        }
    }
}

/// Idle processes of another program, with a command line of their own. Dropping this ends all.
pub(crate) struct Crowd {
    program: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Crowd {
    const ARG: &str = "crowd";

    pub(crate) fn start() -> Crowd {
        let mut program = Command::new(std::env::current_exe().unwrap())
            .arg(Crowd::ARG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Crowd {
            ask: program.stdin.take().unwrap(),
            answer: BufReader::new(program.stdout.take().unwrap()),
            program,
        }
    }

    /// Starts some more, and returns their pids.
    pub(crate) fn add(&mut self, count: u32) -> Vec<u32> {
        writeln!(self.ask, "{count}").unwrap();
        let mut line = String::new();
        self.answer.read_line(&mut line).unwrap();
        line.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    fn serve() {
        // Its children are reaped at once.
        // SAFETY: no handler is installed.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
        for line in std::io::stdin().lines() {
            let mut pids = String::new();
            for _ in 0..line.unwrap().parse::<u32>().unwrap() {
                let idle = Idle::with(|| set_pdeathsig(Signal::SIGKILL).unwrap());
                pids += &format!("{} ", idle.pid());
                std::mem::forget(idle);
            }
            println!("{pids}");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The death of the program kills its children. They are orphans until init has reaped them.
        self.program.kill().unwrap();
        self.program.wait().unwrap();
        while has_orphans() {
            std::thread::yield_now();
        }
    }
}

/// Whether init has another child than this program.
fn has_orphans() -> bool {
    let numbers = std::fs::read_dir("/proc").unwrap();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut pids = numbers.filter_map(|entry| number(entry.unwrap()));
    pids.any(|pid| pid != std::process::id() && matches!(stat(pid), Some((_, 1))))
}

/// State and parent (proc_pid_stat(5) fields 3 and 4).
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..])
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}
