//! The threads of a process: which exist, how still they are, and which of them live.
//!
//! A process is as still as the least still of its threads. It lives as long as one of them does,
//! even if its leader is dead.

use std::io;
use std::time::Duration;

use super::super::sys::Pid;
use super::dir::ProcessDir;
use super::stat::{Stat, Stillness, whole};
use super::{Proc, field, malformed, number};

/// A process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) stillness: Stillness,
    /// 0: the session or group is outside of this PID namespace, or the process is gone.
    pub(crate) session: u32,
    pub(crate) group: u32,
    pub(crate) threads: u32,
}

impl Seen {
    pub(crate) const GONE: Seen = Seen {
        stillness: Stillness::Gone,
        session: 0,
        group: 0,
        threads: 0,
    };
}

impl Proc {
    /// How long the calling thread has been ready to run and had no processor. `None`: the kernel does
    /// not tell (`CONFIG_SCHED_INFO`).
    pub(crate) fn waited_for_processor(&self) -> Option<Duration> {
        let mut buf = Vec::new();
        let path = format_args!("thread-self/schedstat");
        self.load(self.base(), path, &mut buf).ok()?;
        let nanoseconds = buf.split(|&b| b == b' ').nth(1)?;
        Some(Duration::from_nanos(number(nanoseconds)?))
    }
}

impl ProcessDir<'_> {
    /// The threads, ascending; `None`: no such process.
    pub(crate) fn threads(&self) -> io::Result<Option<Vec<Pid>>> {
        let mut threads = Vec::new();
        let found = self.found(|| {
            threads = match self.is_alone()? {
                true => vec![self.pid],
                false => self.numbers("task")?,
            };
            Ok(())
        })?;
        Ok(found.then_some(threads))
    }

    /// Whether it has one thread. Its number is then the pid.
    pub(crate) fn has_one_thread(&self) -> io::Result<bool> {
        let mut is_alone = false;
        let found = self.found(|| {
            is_alone = self.is_alone()?;
            Ok(())
        })?;
        Ok(found && is_alone)
    }

    /// The directory has a link for itself, one for its parent and one for each thread. Three links
    /// mean the leader alone, so no listing is needed.
    fn is_alone(&self) -> io::Result<bool> {
        Ok(self.metadata(format_args!("task"))?.links == 3)
    }

    /// How still the process is: as still as the least still of its threads.
    pub(crate) fn look(&self) -> io::Result<Seen> {
        let mut buf = Vec::new();
        let Some(leader) = self.stat(&mut buf)? else {
            return Ok(Seen::GONE);
        };
        let (session, group, threads) = (leader.session, leader.group, leader.threads);
        let stillness = match (leader.is_zombie(), leader.threads) {
            (true, _) => Stillness::Gone,
            (_, 1) => Stillness::of(leader.state),
            _ => self.stillness_of_threads(&mut buf)?,
        };
        Ok(Seen {
            stillness,
            session,
            group,
            threads,
        })
    }

    fn stillness_of_threads(&self, buf: &mut Vec<u8>) -> io::Result<Stillness> {
        let mut stillness = Stillness::Stopped;
        // Backwards, because the last ones are the last to stop.
        for tid in self.threads()?.unwrap_or_default().into_iter().rev() {
            if let Some(stat) = self.thread_stat(tid, buf)? {
                stillness = stillness.max(Stillness::of(stat.state));
            }
            // Nothing is less still, and there may be thousands of threads.
            if stillness == Stillness::Running {
                break;
            }
        }
        Ok(stillness)
    }

    /// As [`ProcessDir::stat`], for one thread.
    pub(crate) fn thread_stat<'b>(
        &self,
        tid: Pid,
        buf: &'b mut Vec<u8>,
    ) -> io::Result<Option<Stat<'b>>> {
        loop {
            if !self.read_of_thread(tid, "stat", buf)? {
                return Ok(None);
            }
            if whole(buf)?.is_some() {
                return whole(buf);
            }
        }
    }

    /// The pid of a thread's tracer; 0: it has none, or the tracer is outside of the caller's PID
    /// namespace.
    pub(crate) fn tracer(&self, tid: Pid) -> io::Result<u32> {
        let mut status = Vec::new();
        self.load(format_args!("task/{}/status", tid.get()), &mut status)?;
        let tracer = field(&status, b"TracerPid:").and_then(|n| number(n.trim_ascii()));
        let Some(tracer) = tracer.and_then(Pid::new) else {
            return Ok(0);
        };
        // The number is that of the tracing thread. If its process is hidden, the thread's number
        // is returned.
        let process = self.proc.process(tracer).thread_group().ok().flatten();
        Ok(process.unwrap_or(tracer).get())
    }

    /// How often each thread has left a processor (proc_pid_status(5), `ctxt_switches`).
    pub(crate) fn times_run(&self) -> io::Result<Vec<(Pid, u64)>> {
        let mut status = Vec::new();
        let mut times = Vec::new();
        for tid in self.threads()?.unwrap_or_default() {
            if self.read_of_thread(tid, "status", &mut status)? {
                let switches = [
                    &b"voluntary_ctxt_switches:"[..],
                    b"nonvoluntary_ctxt_switches:",
                ];
                let switches = switches.map(|key| field(&status, key));
                let switches = switches.map(|n| n.and_then(|n| number::<u64>(n.trim_ascii())));
                let [Some(waits), Some(preemptions)] = switches else {
                    return Err(malformed());
                };
                times.push((tid, waits + preemptions));
            }
        }
        Ok(times)
    }

    /// A thread that is not dead, if there is one. A thread that is not exiting is preferred.
    ///
    /// The leader may have exited before the others. In execve(2) a thread swaps numbers with its
    /// dead leader, which is then released. So one look may miss the live thread, or see the dead
    /// leader twice. Dead threads can also stay, if a tracer has not waited for them. So "all are
    /// dead" counts only if two looks in a row saw the same threads.
    pub(crate) fn live_thread(&self) -> io::Result<Option<Pid>> {
        let mut buf = Vec::new();
        let mut dead = None;
        loop {
            let Some(threads) = self.threads()? else {
                return Ok(None);
            };
            let mut all_dead = true;
            let mut exiting = None;
            for &tid in &threads {
                match self.thread_stat(tid, &mut buf)? {
                    Some(stat) if stat.leader_exited() => {}
                    Some(stat) if stat.is_exiting() => exiting = exiting.or(Some(tid)),
                    Some(_) => return Ok(Some(tid)),
                    None => all_dead = false,
                }
            }
            if exiting.is_some() {
                return Ok(exiting);
            }
            let Some(leader) = self.stat(&mut buf)? else {
                return Ok(None);
            };
            if leader.is_zombie() {
                return Ok(None);
            }
            // A thread that started after the list was read may have outlived its leader. So the
            // count must agree.
            all_dead &=
                leader.leader_exited() && usize::try_from(leader.threads) == Ok(threads.len());
            let seen = all_dead.then_some(threads);
            if seen.is_some() && seen == dead {
                return Ok(None);
            }
            dead = seen;
        }
    }
}
