//! What the calls cost, counted: allocations, and system calls as a tracer sees them.
//!
//! Each count is taken with some processes and with twice as many. So the difference is what the
//! processes cost, and it does not hold what a call costs once.
#![expect(unsafe_code, reason = "an allocator, fork(2)")]
#![allow(dead_code, reason = "the benches use the other processes")]

#[path = "../benches/idle.rs"]
mod idle;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idle::{Crowd, Idle, Tree};
use nix::sys::ptrace;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use process_kill::{Kill, Outcome, descendant_pids, pids_matching};

/// SIGKILL at once. The tracer makes each call slow, so 2 seconds may be too short.
const PATIENT: Kill = Kill::now().verify_within(Duration::from_secs(30));

const NOBODY: &str = "no command line holds this";

fn main() -> ExitCode {
    idle::in_own_pids(|| {
        nothing_is_allocated_for_nothing();
        a_search_does_not_allocate_for_each_process();
        a_search_makes_three_calls_for_each_process();
        a_walk_makes_few_calls_for_each_process();
        a_kill_makes_few_calls_for_each_process();
        a_tree_kill_makes_few_calls_for_each_process();
        a_graceful_kill_ends_with_its_targets();
    })
}

/// Counts what is allocated.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: it passes all on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// How many allocations a job makes. This program has only one thread.
fn allocations<T>(job: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let done = job();
    let made = ALLOCATED.load(Ordering::Relaxed) - before;
    drop(done);
    made
}

/// How many system calls a job makes, and a few more that are the same for all jobs. Waits are not
/// counted, because how many there are depends on how fast the other processes are. `prepare` is not
/// counted either.
fn calls<T>(prepare: impl FnOnce() -> T, job: impl FnOnce(&mut T)) -> u32 {
    // SAFETY: this program has only one thread, so no lock is held.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let mut prepared = prepare();
            // A tracer sees each signal, and a wait that it interrupts is made again.
            SigSet::from(Signal::SIGCHLD).thread_block().unwrap();
            ptrace::traceme().unwrap();
            raise(Signal::SIGSTOP).unwrap();
            job(&mut prepared);
            raise(Signal::SIGSTOP).unwrap();
            drop(prepared);
            std::process::exit(0);
        }
    };
    let stopped = WaitStatus::Stopped(child, Signal::SIGSTOP);
    assert_eq!(waitpid(child, None), Ok(stopped));
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut calls = 0;
    let mut pass_on = None;
    loop {
        ptrace::syscall(child, pass_on.take()).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => calls += u32::from(is_call(child)),
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
            WaitStatus::Stopped(_, signal) => pass_on = Some(signal),
            ended => panic!("{ended:?}"),
        }
    }
    ptrace::detach(child, None).unwrap();
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    calls
}

/// Whether a traced process is on its way into a system call that is counted.
fn is_call(traced: Pid) -> bool {
    // linux/ptrace.h, Linux 5.3. The libc crate has it for glibc only.
    const PTRACE_GET_SYSCALL_INFO: libc::c_long = 0x420e;
    const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
    /// struct ptrace_syscall_info: `op` is the first byte, and `entry.nr` is at 24.
    const SIZE: usize = 88;
    let mut info = [0_u64; SIZE / 8];
    let (pid, to) = (traced.as_raw(), info.as_mut_ptr());
    // SAFETY: `to` is valid for writes of `SIZE` bytes.
    let got = unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_GET_SYSCALL_INFO, pid, SIZE, to) };
    assert!(got > 0, "{}", std::io::Error::last_os_error());
    // Before it closes a descriptor, a debug build of the standard library asks whether it is open.
    let is_checked = info[3] == u64::try_from(libc::SYS_fcntl).unwrap();
    // A wait for one descriptor. Looks are at many.
    let is_wait = info[3] == u64::try_from(libc::SYS_ppoll).unwrap() && info[5] <= 1;
    info[0].to_ne_bytes()[0] == PTRACE_SYSCALL_INFO_ENTRY && !is_checked && !is_wait
}

/// System calls for each of `count` processes.
fn for_each(count: u32, few: u32, twice_as_many: u32) -> f64 {
    (f64::from(twice_as_many) - f64::from(few)) / f64::from(count)
}

fn nothing_is_allocated_for_nothing() {
    assert_eq!(allocations(|| PATIENT.pids(&[]).unwrap()), 0);
    assert_eq!(allocations(|| Kill::now().pids(&[]).unwrap()), 0);
    assert_eq!(allocations(|| Kill::graceful().pids(&[]).unwrap()), 0);
}

fn a_search_does_not_allocate_for_each_process() {
    for pattern in [NOBODY, "no [c]ommand line holds this"] {
        let mut crowd = Crowd::start();
        // Some things are read once in the life of a program.
        pids_matching(pattern).unwrap();
        let mut count = || {
            crowd.add(400);
            allocations(|| pids_matching(pattern).unwrap())
        };
        let (few, twice_as_many) = (count(), count());
        assert_eq!(few, twice_as_many, "{pattern}");
        println!("{few} allocations for a search of any number of processes");
    }
}

fn a_search_makes_three_calls_for_each_process() {
    const COUNT: u32 = 200;
    let mut crowd = Crowd::start();
    let mut count = || {
        crowd.add(COUNT);
        calls(
            || {},
            |()| assert!(pids_matching(NOBODY).unwrap().is_empty()),
        )
    };
    let each = for_each(COUNT, count(), count());
    println!("{each} system calls for each process that is searched");
    // The rest is for the listing of /proc. musl lists fewer at once.
    assert!((3.0..3.1).contains(&each));
}

fn a_walk_makes_few_calls_for_each_process() {
    let count = |children: usize| {
        calls(
            || Tree::start(&[children]),
            |tree| assert_eq!(descendant_pids(tree.root()).unwrap().len(), children),
        )
    };
    let each = for_each(50, count(50), count(100));
    println!("{each} system calls for each descendant that is found");
    // The rest is for memory, which musl asks the kernel for more often.
    assert!(each <= 6.2);
}

fn a_kill_makes_few_calls_for_each_process() {
    let own = |count: usize| {
        calls(
            || Vec::from_iter(std::iter::repeat_with(Idle::start).take(count)),
            |idle| killed(&Vec::from_iter(idle.iter().map(Idle::pid))),
        )
    };
    let is_parent_told = release() >= (6, 13);
    let mut crowd = Crowd::start();
    let mut strangers = |count| calls(|| crowd.add(count), |pids| killed(pids));
    for (whose, few, twice_as_many) in [
        ("the caller's child", own(100), own(200)),
        ("another's child", strangers(100), strangers(200)),
    ] {
        let each = for_each(100, few, twice_as_many);
        println!("{each} system calls for each of {whose} that is killed");
        // If the pidfd does not tell the parent, three calls read a file of /proc.
        assert!(each <= if is_parent_told { 4.2 } else { 7.2 });
    }
}

/// The version of the kernel: its first two numbers.
fn release() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn killed(pids: &[u32]) {
    assert_eq!(PATIENT.pids(pids).unwrap().len(), pids.len());
}

fn a_tree_kill_makes_few_calls_for_each_process() {
    let count = |children: usize| {
        // A member that does not stop at once is looked at again, so the least count is the steady one.
        let counts = (0..5).map(|_| {
            calls(
                || Tree::start(&[children]),
                |tree| {
                    let report = PATIENT.tree(tree.root()).unwrap();
                    assert_eq!(report.len(), 1 + children);
                },
            )
        });
        counts.min().unwrap()
    };
    let each = for_each(50, count(50), count(100));
    println!("{each} system calls for each member of a tree that is killed");
    assert!(each <= 20.0);
}

fn a_graceful_kill_ends_with_its_targets() {
    let counts = (0..5).map(|_| {
        calls(
            || Tree::start(&[1]),
            |tree| {
                let report = Kill::graceful().tree(tree.root()).unwrap();
                assert_eq!(report.pids(Outcome::Exited).len(), 2);
            },
        )
    });
    let all = counts.min().unwrap();
    println!("{all} system calls for a graceful kill of two processes that obey");
    assert!(all <= 150);
}
