//! The victim of the tests. The variable `STUBBORN` says what it does, so its arguments can be
//! anything. The variable holds words, which are carried out in order. `{ words }` makes a child.
//! `thread{ words }` makes a child that is forked by a thread: this thread is not the leader and
//! lives on. `respawn{ words }` makes a child that is started again each time it ends.
//! `job{ words }` makes a child in one common group, as a shell starts a pipeline; the first `job`
//! leads that group.
//!
//! A process of the tree that has done its words writes `ready PID [NUMBER]` to standard output.
//! The number is that of a port (`listen`) or of a descriptor (`held-fork`). All processes inherit
//! this output, so its end-of-file says that all are gone. A process answers `ping` with
//! `pong PID`. It ends at end-of-file on standard input, or after five minutes.
//!
//! A binary of the package cannot use its dev-dependencies, so it calls libc itself.
#![expect(unsafe_code, reason = "system calls on itself and its own children")]

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit, id};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The result of a system call; -1 ends the program with the reason.
macro_rules! sys {
    ($call:expr) => {{
        // SAFETY: every call below takes integers, or pointers to live values of the right type.
        let result = unsafe { $call };
        assert!(result != -1, "{}", std::io::Error::last_os_error());
        result
    }};
}

fn main() {
    if std::env::var_os(AGAIN).is_some() {
        exec_by_thread();
    }
    // SAFETY: integers; the default action runs no code of ours.
    unsafe {
        libc::alarm(300);
        // The program that runs the tests may ignore these, as nohup(1) does. Children inherit
        // that.
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    let spec = std::env::var("STUBBORN").unwrap_or_default();
    let words: Vec<&str> = spec.split_whitespace().collect();
    let mut said = format!("ready {}", id());
    let mut after: Vec<&str> = Vec::new();
    // Kept open until the end.
    let mut listeners = Vec::new();
    let mut locks = Vec::new();
    let mut memory = Vec::new();
    let mut crowd = String::new();
    let mut job = None;
    let mut rest = words.as_slice();
    while let Some((&word, tail)) = rest.split_first() {
        rest = tail;
        let (verb, value) = word.split_once('=').unwrap_or((word, ""));
        match verb {
            "{" => rest = child(rest, false),
            "thread{" => rest = child(rest, true),
            "job{" => rest = start_job(rest, &mut job),
            "ignore" => {
                let signal = match value {
                    "TERM" => libc::SIGTERM,
                    "HUP" => libc::SIGHUP,
                    "INT" => libc::SIGINT,
                    // Its children are reaped as soon as they end.
                    "CHLD" => libc::SIGCHLD,
                    _ => panic!("no such signal: {value}"),
                };
                // SAFETY: SIG_IGN runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            "setsid" => drop(sys!(libc::setsid())),
            "setpgid" => drop(sys!(libc::setpgid(0, 0))),
            "name" => {
                let name = CString::new(value).unwrap();
                sys!(libc::prctl(libc::PR_SET_NAME, name.as_ptr()));
            }
            // Pairs of hexadecimal digits, because a word cannot hold every byte.
            "name-hex" => {
                let digits = value.as_bytes().chunks(2);
                let byte = |d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap();
                let name = CString::new(digits.map(byte).collect::<Vec<u8>>()).unwrap();
                sys!(libc::prctl(libc::PR_SET_NAME, name.as_ptr()));
            }
            "title" => set_title(value),
            "chdir" => std::env::set_current_dir(value).unwrap(),
            "listen" => {
                let address = if value.is_empty() { "127.0.0.1" } else { value };
                let listener = TcpListener::bind((address, 0)).unwrap();
                said += &format!(" {}", listener.local_addr().unwrap().port());
                listeners.push(listener);
            }
            "flock" => {
                let file = File::create(value).unwrap();
                sys!(libc::flock(file.as_raw_fd(), libc::LOCK_EX));
                locks.push(file);
            }
            // In MiB. Every page is touched, so the exit needs time to give the pages back.
            "memory" => memory.resize(value.parse::<usize>().unwrap() << 20, 1_u8),
            "nobody" => drop(sys!(libc::setresuid(65534, 65534, 65534))),
            "threads" => {
                for _ in 0..value.parse().unwrap() {
                    std::thread::spawn(|| {
                        loop {
                            std::thread::park()
                        }
                    });
                }
            }
            "heir" => heir(value),
            // Shared: another child shares the memory, as after vfork(2), and the new one leaves the
            // session.
            "held-fork" => {
                if value == "shared" {
                    share_memory(0, true);
                }
                said += &format!(" {}", hold_forks());
                after.push(word);
            }
            // It never reaps the orphans among its descendants, which are given to it from now on.
            "adopt" => drop(sys!(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))),
            // This applies to its children only.
            "unshare-pid" => drop(sys!(libc::unshare(libc::CLONE_NEWPID))),
            "deep" => deep(value.parse().unwrap()),
            "wide" => {
                for _ in 0..value.parse().unwrap() {
                    idle_child();
                }
            }
            "crowd" => crowd = fork_crowd(value.parse().unwrap()),
            "brood" => brood(value.parse().unwrap()),
            "jobs" => jobs(value.parse().unwrap()),
            "reuse" => reuse(value.parse().unwrap(), &mut said),
            "exit" | "stop" | "spin" | "leader-exits" | "churn" | "shed" | "execs" | "trace"
            | "storm" | "leapfrog" | "pair" | "partner" | "vfork" | "let-go" | "stuck-init"
            | "follow" | "standby" => {
                after.push(word);
            }
            "respawn{" => {
                let (words, tail) = block(rest);
                program();
                std::thread::spawn(move || respawn(&words));
                rest = tail;
            }
            _ => panic!("no such word: {word}"),
        }
    }
    let mut trace = None;
    if let Some(pid) = after.iter().find_map(|word| word.strip_prefix("trace=")) {
        let pid: libc::pid_t = pid.parse().unwrap();
        let options = libc::PTRACE_O_TRACEEXIT;
        sys!(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options));
        trace = Some(pid);
    }
    say(&said);
    if !crowd.is_empty() {
        say(&crowd);
    }
    for word in after {
        match word.split_once('=').unwrap_or((word, "")) {
            ("exit", "") => exit(0),
            ("exit", code) => exit(code.parse().unwrap()),
            ("stop", _) => drop(sys!(libc::raise(libc::SIGSTOP))),
            ("spin", _) => loop {
                std::hint::spin_loop()
            },
            ("leader-exits", _) => {
                std::thread::spawn(serve);
                // SAFETY: ends this thread alone; the other one owns nothing of its stack.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            }
            ("storm", most) => storm(most.parse().unwrap()),
            ("leapfrog", how) => leapfrog(how == "stay"),
            ("pair", _) => respawn(&format!("partner={}", id())),
            ("partner", parent) => partner(parent.parse().unwrap()),
            ("execs", _) => exec_by_thread(),
            ("vfork", how) => vfork(how == "quiet"),
            ("held-fork", "shared") if sys!(libc::fork()) == 0 => {
                sys!(libc::setsid());
                idle();
            }
            ("held-fork", "shared") => {}
            ("held-fork", _) => drop(idle_child()),
            ("follow", _) => follow(job.unwrap()),
            ("standby", port) => {
                let address = ("127.0.0.1", port.parse().unwrap());
                std::thread::spawn(move || standby(address));
            }
            ("let-go", pid) => let_go(pid.parse().unwrap()),
            ("stuck-init", how) => stuck_init(how == "leaderless"),
            ("churn", threads) => {
                for _ in 1..threads.parse().unwrap() {
                    std::thread::spawn(churn);
                }
                std::thread::spawn(serve);
                churn();
            }
            ("shed", children) => {
                std::thread::spawn(serve);
                shed(children.parse().unwrap());
            }
            _ => {}
        }
    }
    if let Some(pid) = trace {
        hold(pid);
    }
    serve();
}

/// The words up to the closing brace, and those after it.
fn block<'a>(words: &'a [&'a str]) -> (String, &'a [&'a str]) {
    let mut depth = 1;
    let end = words.iter().position(|word| {
        depth += i32::from(word.ends_with('{')) - i32::from(*word == "}");
        depth == 0
    });
    let end = end.expect("a closing brace");
    (words[..end].join(" "), &words[end + 1..])
}

/// The path of this program. It cannot be read any more once the leader has exited.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::current_exe().unwrap())
}

/// This program again, with the same arguments.
fn again(spec: &str) -> Command {
    let mut command = Command::new(program());
    command
        .args(std::env::args_os().skip(1))
        .env("STUBBORN", spec);
    command
}

/// Starts this program again for the words up to the closing brace, and returns those after it.
fn child<'a>(words: &'a [&'a str], by_thread: bool) -> &'a [&'a str] {
    let (spec, rest) = block(words);
    let start = move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        drop(command.env("STUBBORN", &spec).spawn().unwrap());
    };
    if by_thread {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            start();
            tell.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
        told.recv().unwrap();
    } else {
        start();
    }
    rest
}

/// Starts this program again in the group of the first job, or as the first job, for the words up to
/// the closing brace, and returns those after it.
#[expect(
    clippy::zombie_processes,
    reason = "it is to be a zombie if it ends first"
)]
fn start_job<'a>(words: &'a [&'a str], first: &mut Option<libc::pid_t>) -> &'a [&'a str] {
    let (spec, rest) = block(words);
    let mut command = again(&spec);
    let started = command.process_group(first.unwrap_or(0)).spawn().unwrap();
    first.get_or_insert(started.id().try_into().unwrap());
    rest
}

/// Exits when a child has ended, and leaves the child unreaped.
fn follow(child: libc::pid_t) -> ! {
    // SAFETY: all fields are integers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let how = libc::WEXITED | libc::WNOWAIT;
    sys!(libc::waitid(
        libc::P_PID,
        child.unsigned_abs(),
        &raw mut info,
        how
    ));
    exit(0);
}

/// Starts a child again each time it ends.
fn respawn(spec: &str) {
    loop {
        again(spec).spawn().unwrap().wait().unwrap();
    }
}

/// Overwrites its arguments as setproctitle(3) does. A title that is too long for them goes on into
/// the environment, so the parent first sets a variable of that length.
fn set_title(title: &str) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    // Fields 48 and 49; the first of these is field 2.
    let [start, end] = [46, 47].map(|field| fields[field].parse::<usize>().unwrap());
    let length = (end - start).max(title.len() + 1);
    let mut text = title.as_bytes().to_vec();
    text.resize(length, 0);
    // SAFETY: the arguments and the environment behind them lie on the stack and are writable.
    // Nothing reads them any more.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start as *mut u8, length) };
}

/// Watches its parent. When the parent is gone, takes its place.
fn partner(parent: libc::pid_t) {
    // SAFETY: two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, parent, 0) };
    if fd >= 0 {
        let mut poll = libc::pollfd {
            fd: fd as libc::c_int,
            events: libc::POLLIN,
            revents: 0,
        };
        sys!(libc::poll(&raw mut poll, 1, -1));
    }
    respawn(&format!("partner={}", id()));
}

/// Whether no process holds the other end of standard input any more.
fn is_let_go() -> bool {
    let mut poll = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    sys!(libc::poll(&raw mut poll, 1, 0)) == 1
}

/// Keeps up to `most` processes, each of which forks without pause. As long as there are fewer, the
/// children fork as well. Then the children exit at once. Says `storming` when there are `most`.
fn storm(most: u32) {
    // SAFETY: a new shared mapping, which fork(2) hands on.
    let live = unsafe {
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            shared,
            -1,
            0,
        );
        assert!(page != libc::MAP_FAILED);
        &*page.cast::<AtomicU32>()
    };
    while !is_let_go() {
        let before = live.load(Ordering::Relaxed);
        let grows = before < most && live.fetch_add(1, Ordering::Relaxed) < most;
        if grows && live.load(Ordering::Relaxed) >= most {
            say("storming");
        }
        // SAFETY: a process of one thread. Its child goes on as it does, or exits.
        match unsafe { libc::fork() } {
            0 if grows => {}
            // SAFETY: ends the child at once.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: reaps every dead child.
            _ => unsafe { while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {} },
        }
    }
    exit(0);
}

/// Listens as soon as the address is free.
fn standby(address: (&str, u16)) {
    loop {
        if let Ok(listener) = TcpListener::bind(address) {
            std::mem::forget(listener);
            return;
        }
    }
}

/// Forks and exits without pause, so each process is gone before it is seen. Each one makes a
/// session of its own, unless it is told to `stay` in its group.
fn leapfrog(stay: bool) {
    while !is_let_go() {
        match sys!(libc::fork()) {
            0 if stay => {}
            0 => drop(sys!(libc::setsid())),
            // SAFETY: ends this process at once.
            _ => unsafe { libc::_exit(0) },
        }
    }
    exit(0);
}

/// Forks children that do nothing and end with their parent. Says `crowd PID..`.
fn fork_crowd(size: usize) -> String {
    let mut said = String::from("crowd");
    let parent = id();
    for _ in 0..size {
        match sys!(libc::fork()) {
            0 => {
                sys!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
                while std::os::unix::process::parent_id() == parent {
                    // SAFETY: no arguments; returns when a signal handler has run.
                    unsafe { libc::pause() };
                }
                exit(0);
            }
            child => said += &format!(" {child}"),
        }
    }
    said
}

/// One write, so lines of several processes do not mix.
fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
    std::io::stdout().flush().unwrap();
}

fn serve() {
    let mut buf = [0; 5];
    loop {
        match std::io::stdin().read(&mut buf) {
            Ok(0) => exit(0),
            Ok(_) => say(&format!("pong {}", id())),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// Forks and reaps children without pause. The children exit at once.
fn churn() {
    loop {
        match sys!(libc::fork()) {
            // SAFETY: ends the child at once.
            0 => unsafe { libc::_exit(0) },
            child => drop(sys!(libc::waitpid(child, std::ptr::null_mut(), 0))),
        }
    }
}

/// Forks a child that does nothing. Like all others, it ends at end-of-file on standard input.
fn idle_child() -> libc::pid_t {
    match sys!(libc::fork()) {
        0 => idle(),
        child => child,
    }
}

fn idle() -> ! {
    // This process must not read: it would take the pings from the processes that answer them.
    let mut hang_up = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    loop {
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&raw mut hang_up, 1, -1) } == 1 {
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) };
        }
    }
}

/// Forks a chain of `levels` descendants: each one is the child of the one before. Returns when all
/// exist.
fn deep(levels: u32) {
    let mut pipe = [0; 2];
    sys!(libc::pipe(pipe.as_mut_ptr()));
    if sys!(libc::fork()) == 0 {
        for _ in 1..levels {
            if sys!(libc::fork()) != 0 {
                sys!(libc::close(pipe[1]));
                idle();
            }
        }
        sys!(libc::close(pipe[1]));
        idle();
    }
    until_closed(pipe);
}

/// Forks `children` children that obey SIGTERM. Each has one child that ignores SIGTERM. Returns
/// when all exist.
fn brood(children: u32) {
    let mut pipe = [0; 2];
    sys!(libc::pipe(pipe.as_mut_ptr()));
    for _ in 0..children {
        if sys!(libc::fork()) == 0 {
            if sys!(libc::fork()) == 0 {
                // SAFETY: SIG_IGN runs no code of ours.
                unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            }
            sys!(libc::close(pipe[1]));
            idle();
        }
    }
    until_closed(pipe);
}

/// Forks `children` children, each in a group of its own, as a shell with job control does. They
/// ignore SIGHUP. One that is continued says `continued`. Returns when all are ready.
fn jobs(children: u32) {
    extern "C" fn say_continued(_: libc::c_int) {
        let line = b"continued\n";
        // SAFETY: the bytes are valid for reads. A line is one write.
        unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    }
    let mut pipe = [0; 2];
    sys!(libc::pipe(pipe.as_mut_ptr()));
    for _ in 0..children {
        if sys!(libc::fork()) == 0 {
            sys!(libc::setpgid(0, 0));
            // SAFETY: the handler makes one system call, which is async-signal-safe.
            unsafe {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                libc::signal(libc::SIGCONT, say_continued as *const () as usize);
            }
            sys!(libc::close(pipe[1]));
            idle();
        }
    }
    until_closed(pipe);
}

/// Waits until no other process holds the writing end.
fn until_closed([read, write]: [libc::c_int; 2]) {
    sys!(libc::close(write));
    let mut byte = 0_u8;
    sys!(libc::read(read, (&raw mut byte).cast(), 1));
    sys!(libc::close(read));
}

/// Makes a PID namespace whose init is stuck exiting without a memory map, and says `stuck PID`.
///
/// An exiting init waits until every process of its namespace is reaped. Here one of them is a
/// zombie whose parent is this process, outside the namespace. This process never reaps it. Init
/// goes on when this process ends.
fn stuck_init(is_leaderless: bool) {
    sys!(libc::unshare(libc::CLONE_NEWPID));
    let mut pipe = [0; 2];
    sys!(libc::pipe(pipe.as_mut_ptr()));
    // The first child is the init of the namespace.
    let init = sys!(libc::fork());
    if init == 0 {
        sys!(libc::close(pipe[1]));
        let mut byte = 0_u8;
        sys!(libc::read(pipe[0], (&raw mut byte).cast(), 1));
        if is_leaderless {
            std::thread::spawn(exit_after_leader);
            // SAFETY: ends this thread alone; the other one owns nothing of its stack.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(0) };
    }
    let member = sys!(libc::fork());
    if member == 0 {
        sys!(libc::close(pipe[1]));
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    }
    // End-of-file tells init to exit. Init first lets go of its memory map, and then kills the
    // member.
    sys!(libc::close(pipe[1]));
    // SAFETY: all fields are integers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let (who, how) = (member.unsigned_abs(), libc::WEXITED | libc::WNOWAIT);
    sys!(libc::waitid(libc::P_PID, who, &raw mut info, how));
    say(&format!("stuck {init}"));
}

/// Ends the process as soon as its leader has exited.
fn exit_after_leader() {
    let leader_runs = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        !stat[stat.rfind(')').unwrap()..].starts_with(") Z")
    };
    while leader_runs() {
        std::thread::yield_now();
    }
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(0) };
}

/// Keeps `children` children. Without pause, a new child replaces the oldest one. Unlike the
/// children of [`churn`], these end in the order of their birth, each before its younger siblings.
fn shed(children: usize) {
    let mut kept: VecDeque<_> = (0..children).map(|_| idle_child()).collect();
    loop {
        kept.push_back(idle_child());
        let oldest = kept.pop_front().unwrap();
        sys!(libc::kill(oldest, libc::SIGKILL));
        sys!(libc::waitpid(oldest, std::ptr::null_mut(), 0));
    }
}

const AGAIN: &str = "STUBBORN_AGAIN";

/// Executes this program again without pause. Each time a thread does it, and takes the leader's
/// place.
fn exec_by_thread() -> ! {
    let mut hang_up = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    if unsafe { libc::poll(&raw mut hang_up, 1, 0) } != 0 {
        exit(0);
    }
    std::thread::spawn(|| {
        let mut command = Command::new("/proc/self/exe");
        let error = command
            .args(std::env::args_os().skip(1))
            .env(AGAIN, "")
            .exec();
        panic!("{error}");
    });
    loop {
        std::thread::park();
    }
}

/// Forks by vfork(2) a child that does nothing. This process sleeps in state D until that child is
/// gone. Says `vforked PID`, unless it is told to be `quiet`.
fn vfork(quiet: bool) {
    share_memory(libc::CLONE_VFORK, quiet);
}

/// Makes a child that shares the memory and does nothing.
fn share_memory(flags: libc::c_int, quiet: bool) {
    extern "C" fn child(quiet: *mut libc::c_void) -> libc::c_int {
        if quiet.is_null() {
            say(&format!("vforked {}", id()));
        }
        idle()
    }
    // The child has this stack to itself.
    let stack = Vec::leak(vec![0_u128; 8192]);
    let flags = libc::CLONE_VM | flags | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    let quiet = std::ptr::without_provenance_mut(usize::from(quiet));
    sys!(libc::clone(child, top.cast(), flags, quiet));
}

/// Makes each fork(2) of this process sleep in state D before the child exists. The sleep ends when
/// the event of the fork is read from the userfaultfd(2) that is returned. SIGKILL ends such a fork
/// without a child.
fn hold_forks() -> libc::c_int {
    /// `struct uffdio_api` and `struct uffdio_register` of linux/userfaultfd.h, and their ioctl(2)s.
    const API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    const REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    const VERSION: u64 = 0xaa;
    const EVENT_FORK: u64 = 1 << 1;
    const MISSING: u64 = 1 << 0;
    const SIZE: usize = 1 << 16;
    // SAFETY: a new private mapping, which is never touched.
    let memory = unsafe {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            private,
            -1,
            0,
        )
    };
    assert!(memory != libc::MAP_FAILED);
    // poll(2) works on it only with O_NONBLOCK.
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let fd = sys!(libc::syscall(libc::SYS_userfaultfd, flags)) as libc::c_int;
    let mut api = [VERSION, EVENT_FORK, 0];
    sys!(libc::ioctl(fd, API, api.as_mut_ptr()));
    let mut register = [memory as u64, SIZE as u64, MISSING, 0];
    sys!(libc::ioctl(fd, REGISTER, register.as_mut_ptr()));
    fd
}

/// On SIGTERM forks a child that ignores SIGTERM, and says `heir`. Then it ends, unless it is told
/// to `stay`. The heir of an `aside` is a child of its parent. A `late` one forks so late that it is not
/// watched any more. Its heir has left the session when it ends. One that ends after a `lap` forks many
/// more, and sets the number of the newest process (ns_last_pid, root) to the one before its heir. One
/// that is to be `woken` forks on SIGCONT, an heir that leaves the session, and does not end.
fn heir(how: &str) {
    const LATE: libc::c_int = 100;
    extern "C" fn fork(flags: libc::c_int, stay: bool) {
        let flags = flags | libc::SIGCHLD;
        // SAFETY: all of these calls are async-signal-safe. Without a stack the new process goes on as
        // after fork(2).
        unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            match libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) {
                0 => idle(),
                _ => libc::write(1, c"heir\n".as_ptr().cast(), 5),
            };
            if !stay {
                libc::_exit(0);
            }
        }
    }
    extern "C" fn leave(_: libc::c_int) {
        fork(0, false);
    }
    extern "C" fn remain(_: libc::c_int) {
        fork(0, true);
    }
    extern "C" fn aside(_: libc::c_int) {
        fork(libc::CLONE_PARENT, false);
    }
    extern "C" fn late(_: libc::c_int) {
        fork_daemon(LATE);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    extern "C" fn lap(_: libc::c_int) {
        const ENOUGH: u32 = 10_000;
        let heir = fork_daemon(LATE);
        // SAFETY: as above.
        unsafe {
            for _ in 0..ENOUGH {
                match libc::fork() {
                    0 => libc::_exit(0),
                    child => libc::waitpid(child, std::ptr::null_mut(), 0),
                };
            }
            let path = c"/proc/sys/kernel/ns_last_pid";
            let file = libc::open(path.as_ptr(), libc::O_WRONLY);
            let mut digits = [0_u8; 8];
            let mut rest = heir - 1;
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            libc::write(file, digits.as_ptr().cast(), digits.len());
            libc::_exit(0)
        }
    }
    extern "C" fn woken(_: libc::c_int) {
        fork_daemon(0);
    }
    /// After so many milliseconds.
    fn fork_daemon(wait: libc::c_int) -> libc::pid_t {
        let mut pipe = [0; 2];
        // SAFETY: as above. poll(2) gets no descriptor, and only waits.
        unsafe {
            libc::poll(std::ptr::null_mut(), 0, wait);
            libc::pipe(pipe.as_mut_ptr());
            // Once.
            libc::signal(libc::SIGCONT, libc::SIG_DFL);
            let heir = libc::fork();
            if heir == 0 {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::setsid();
                libc::write(1, c"heir\n".as_ptr().cast(), 5);
                libc::write(pipe[1], c"".as_ptr().cast(), 1);
                idle();
            }
            libc::read(pipe[0], [0_u8].as_mut_ptr().cast(), 1);
            heir
        }
    }
    let (signal, handler): (_, extern "C" fn(libc::c_int)) = match how {
        "late" => (libc::SIGTERM, late),
        "lap" => (libc::SIGTERM, lap),
        "stay" => (libc::SIGTERM, remain),
        "aside" => (libc::SIGTERM, aside),
        "woken" => (libc::SIGCONT, woken),
        _ => (libc::SIGTERM, leave),
    };
    // SAFETY: the handler makes async-signal-safe calls only.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Traces a process until it is gone. Continues the process each time it stops.
fn let_go(pid: libc::pid_t) -> ! {
    sys!(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0));
    let mut status = 0;
    while sys!(libc::waitpid(pid, &raw mut status, libc::__WALL)) == pid && libc::WIFSTOPPED(status)
    {
        // SAFETY: integers. The process may be dead by now.
        unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, 0) };
    }
    exit(0);
}

/// Keeps the traced process in the stop that it enters when it exits, until this process ends.
fn hold(pid: libc::pid_t) {
    loop {
        let mut status = 0;
        sys!(libc::waitpid(pid, &raw mut status, libc::__WALL));
        if status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_EXIT << 8) {
            say("held");
            return;
        }
        // A stop of a seized process can carry an event above the signal. Only a stop without one
        // delivers the signal.
        let signal = if status >> 16 == 0 {
            libc::WSTOPSIG(status)
        } else {
            0
        };
        // SAFETY: integers. The process may have been killed by now: then its next stop is that of
        // its exit.
        unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, signal) };
    }
}

/// Forks a child that gets the given pid (clone3(2) with `set_tid`, Linux 5.5, root). The child
/// serves instead of its parent. Says `taken` if another process has the pid.
fn reuse(pid: libc::pid_t, said: &mut String) {
    // SAFETY: all fields are integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    args.set_tid = (&raw const pid) as u64;
    args.set_tid_size = 1;
    // SAFETY: without CLONE_VM this is fork(2), in a process of one thread. The size is that of the
    // struct.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) } {
        0 => *said = format!("ready {}", id()),
        -1 => {
            say("taken");
            exit(1);
        }
        _ => {
            sys!(libc::waitpid(pid, std::ptr::null_mut(), 0));
            exit(0);
        }
    }
}
