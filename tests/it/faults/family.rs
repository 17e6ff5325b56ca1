//! The victims of one run, and the bystander.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, pipe2};

use super::super::fixture::{PATIENCE, Victim, eventually, readable, states};

/// A tree of stubborn processes on pipes of the stage. Either the stage or the subject starts it.
pub struct Family {
    /// `None`: the subject has started it.
    child: Option<Child>,
    /// Its end-of-file ends all of them.
    leash: Option<OwnedFd>,
    /// What they say. Each holds the other end, so its end-of-file says that all are gone.
    out: BufReader<File>,
    /// In the order in which they got ready.
    pub pids: Vec<u32>,
    pub port: Option<u16>,
}

/// The command for the first process of a family. The program is a copy in `dir`, so the bystander
/// runs another one. All have a variable and the working directory in common.
pub fn command(spec: &str, dir: &Path) -> (Command, Family) {
    let (stdin, leash) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (out, stdout) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut command = Command::new(program(dir));
    command.env("STUBBORN", spec).current_dir(dir);
    command.env("PROCESS_KILL_FINDABLE", "yes");
    command.stdin(stdin).stdout(stdout);
    let family = Family {
        child: None,
        leash: Some(leash),
        out: BufReader::new(File::from(out)),
        pids: Vec::new(),
        port: None,
    };
    (command, family)
}

/// Kills a victim whose parent ignores SIGCHLD, and waits until no process has its number.
pub fn end(victim: u32) {
    // It may have ended already.
    let _ = kill(Pid::from_raw(victim.try_into().unwrap()), Signal::SIGKILL);
    eventually("reaped", || states(victim).is_empty());
}

/// Where the copy is.
pub fn program(dir: &Path) -> PathBuf {
    dir.join("stubborn")
}

impl Family {
    /// Starts them as children of the stage, and returns when all are ready.
    pub fn start(spec: &str, dir: &Path) -> Family {
        let (mut command, mut family) = command(spec, dir);
        family.child = Some(command.spawn().unwrap());
        drop(command);
        family.until_ready(spec);
        family
    }

    /// Waits until all have said that they are ready.
    pub fn until_ready(&mut self, spec: &str) {
        let count = 1 + spec.matches('{').count();
        while self.pids.len() < count {
            if self.out.buffer().is_empty() {
                readable(self.out.get_ref(), PATIENCE);
            }
            let mut line = String::new();
            self.out.read_line(&mut line).unwrap();
            let mut words = line.trim_end().strip_prefix("ready ").unwrap().split(' ');
            self.pids.push(words.next().unwrap().parse().unwrap());
            self.port = self.port.or(words.next().map(|port| port.parse().unwrap()));
        }
        // A child can be ready before its parent.
        if let Some(child) = &self.child {
            let root = child.id();
            self.pids.sort_unstable_by_key(|&pid| (pid != root, pid));
        } else {
            self.pids.sort_unstable();
        }
    }

    /// The newest, which has no children; `None`: there is only one.
    pub fn newest(&self) -> Option<u32> {
        let newest = self.pids.iter().max();
        newest.copied().filter(|_| self.pids.len() > 1)
    }

    pub fn are_gone(&mut self, within: Duration) -> bool {
        let mut said = [0; 4096];
        loop {
            let timeout = PollTimeout::try_from(within).unwrap();
            let mut fds = [PollFd::new(self.out.get_ref().as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if self.out.buffer().is_empty() => return false,
                Err(Errno::EINTR) => continue,
                _ => {}
            }
            if self.out.read(&mut said).unwrap() == 0 {
                return true;
            }
        }
    }

    pub fn fates(&self) -> Vec<(u32, Fate)> {
        self.pids.iter().map(|&pid| (pid, Fate::of(pid))).collect()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.leash = None;
        // In this namespace no other process gets one of these numbers so soon.
        for &(pid, fate) in &self.fates() {
            if fate != Fate::Gone {
                let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
            }
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        assert!(self.are_gone(PATIENCE));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Gone,
    /// SIGKILL is on its way.
    Dying,
    /// Stopped, or about to stop.
    Stopped,
    Lives,
}

impl Fate {
    pub fn is_hit(self) -> bool {
        matches!(self, Fate::Gone | Fate::Dying)
    }

    pub fn of(pid: u32) -> Fate {
        let bit = |signal: i32| 1_u64 << (signal - 1);
        let pending = pending(pid);
        let states = states(pid);
        if states.iter().all(|state| matches!(state, 'Z' | 'X')) {
            Fate::Gone
        } else if pending & bit(libc::SIGKILL) != 0 {
            Fate::Dying
        } else if states.contains(&'T') || pending & bit(libc::SIGSTOP) != 0 {
            Fate::Stopped
        } else {
            Fate::Lives
        }
    }
}

/// The signals that are sent to a process and not delivered yet (proc_pid_status(5)). A process that
/// dies of SIGKILL keeps that one.
fn pending(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("ShdPnd:"));
    set.map_or(0, |set| u64::from_str_radix(set.trim(), 16).unwrap())
}

/// A process of another kind, which no function may touch.
pub struct Bystander(Victim);

impl Bystander {
    pub fn start() -> Bystander {
        Bystander(Victim::start("setsid name=bystander"))
    }

    /// What was done to it since the last time; `None`: it runs, and was neither stopped nor
    /// continued.
    pub fn hit(&mut self) -> Option<String> {
        let pid = Pid::from_raw(self.0.pid().try_into().unwrap());
        let changes = WaitPidFlag::WSTOPPED
            | WaitPidFlag::WCONTINUED
            | WaitPidFlag::WEXITED
            | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(pid), changes) {
            Ok(WaitStatus::StillAlive) if self.0.answers() => None,
            // Its own time limit: a whole sweep of a function can take longer.
            Ok(WaitStatus::Signaled(_, Signal::SIGALRM, _)) => {
                *self = Bystander::start();
                None
            }
            changed => Some(format!("{changed:?} {:?}", states(self.0.pid()))),
        }
    }
}
