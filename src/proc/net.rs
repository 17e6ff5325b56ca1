//! The listening TCP sockets (proc_pid_net(5)) and the processes that hold them (proc_pid_fd(5)).
//!
//! The table names a socket by its inode, and a descriptor of it is a link to `socket:[inode]`. No
//! table says which process holds a socket, so the links of all processes are read.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use procfs::FromBufReadSI;
use procfs::net::{TcpNetEntries, TcpState};

use super::super::sys::{self, Pid};
use super::dir::ProcessDir;
use super::stat::whole;
use super::{Proc, is_absent, malformed, number};

/// A TCP socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    /// The user that made it.
    pub(crate) uid: u32,
    pub(crate) inode: u64,
}

/// Which descriptor tables of a process are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Each table once: nearly always the leader's alone. unshare(2) with `CLONE_FILES` gives a thread
    /// its own. If kcmp(2) may not tell them apart, only the leader's.
    Different,
    /// The table of every thread.
    OfThreads,
}

impl Proc {
    /// The TCP sockets that listen in the network namespace of the calling thread. The kernel finds
    /// its place in a long list by counting. So while sockets are opened and closed, another one
    /// may be listed twice or left out.
    pub(crate) fn listeners(&self) -> io::Result<Vec<Listener>> {
        let mut buf = Vec::new();
        // `thread-self`: Linux 3.17. `self` shows the namespace of the main thread.
        self.load_all(self.base(), format_args!("thread-self/net/tcp"), &mut buf)?;
        let mut found = listeners_in(&buf)?;
        match self.load_all(self.base(), format_args!("thread-self/net/tcp6"), &mut buf) {
            Ok(()) => found.extend(listeners_in(&buf)?),
            // A kernel without IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(found)
    }
}

fn listeners_in(table: &[u8]) -> io::Result<Vec<Listener>> {
    let entries = TcpNetEntries::from_buf_read(table, procfs::current_system_info());
    let TcpNetEntries(entries) = entries.map_err(|_| malformed())?;
    let listening = entries.iter().filter(|e| e.state == TcpState::Listen);
    Ok(listening
        .map(|entry| Listener {
            port: entry.local_address.port(),
            uid: entry.uid,
            inode: entry.inode,
        })
        .collect())
}

impl ProcessDir<'_> {
    /// Which of these sockets the process holds a descriptor of.
    pub(crate) fn sockets_among(&self, inodes: &[u64], tables: Tables) -> io::Result<Vec<u64>> {
        let (mut held, threads) = match tables {
            Tables::Different => (
                self.of_live_task(|task| self.sockets_of(task, inodes))?,
                self.threads_apart()?,
            ),
            Tables::OfThreads => (Vec::new(), self.threads()?.unwrap_or_default()),
        };
        for tid in threads {
            match self.sockets_of(&task(tid), inodes) {
                Ok(sockets) => held.extend(sockets),
                // The thread has ended. The table of a dead leader belongs to root.
                Err(e) if is_absent(&e) || is_denied(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(held)
    }

    /// The threads whose tables of descriptors differ from the leader's and from each other.
    fn threads_apart(&self) -> io::Result<Vec<Pid>> {
        let mut apart = vec![self.pid];
        for tid in self.threads()?.unwrap_or_default() {
            let is_new = apart.iter().all(|&one| {
                let share = sys::process::share_descriptors(one, tid);
                // `ESRCH`: that one has ended, so nothing is known of this one.
                share.map_or_else(|e| e.raw_os_error() == Some(libc::ESRCH), |share| !share)
            });
            if is_new {
                apart.push(tid);
            }
        }
        apart.remove(0);
        Ok(apart)
    }

    /// As [`ProcessDir::sockets_among`], for one task. A task that has exited shows no descriptors,
    /// so an empty list is checked. An error of kind `NotFound`: the task has exited.
    fn sockets_of(&self, task: &str, inodes: &[u64]) -> io::Result<Vec<u64>> {
        let mut held = Vec::new();
        let mut read = || -> io::Result<bool> {
            let descriptors = self.descriptors(task)?;
            let mut is_whole = !descriptors.is_empty();
            for descriptor in descriptors {
                match self.link(format_args!("{task}fd/{descriptor}")) {
                    Ok(target) => {
                        held.extend(socket_in(&target).filter(|inode| inodes.contains(inode)));
                    }
                    Err(e) if is_absent(&e) => is_whole = false,
                    Err(e) => return Err(e),
                }
            }
            Ok(is_whole)
        };
        let read = read();
        if matches!(read, Ok(true)) {
            return Ok(held);
        }
        let mut stat = Vec::new();
        let is_there = self.read(format_args!("{task}stat"), &mut stat)?;
        if !is_there || whole(&stat)?.is_none_or(|stat| stat.has_left()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        read.map(|_| held)
    }
}

/// The path of a thread below the directory of its process.
fn task(tid: Pid) -> String {
    format!("task/{}/", tid.get())
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The inode of the socket that a descriptor's link names. A path of a file begins with `/`.
fn socket_in(target: &Path) -> Option<u64> {
    let name = target.as_os_str().as_bytes().strip_prefix(b"socket:[")?;
    number(name.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    #[test]
    fn only_what_listens_is_listed() {
        let table = [
            HEADER,
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0",
            "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 02:000A8C2B 00000000     0        0 4712 2 0000000000000000 20 4 0 10 -1",
            "   2: 0100007F:1F90 0100007F:C351 06 00000000:00000000 03:00000D2B 00000000     0        0 0 3 0000000000000000",
            "   3: 00000000000000000000000000000000:FFFF 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 18446744073709551615 1 0000000000000000 100 0 0 10 0",
            "",
        ];
        let expected = [(8080, 1000, 4711), (65535, 0, u64::MAX)];
        let expected = expected.map(|(port, uid, inode)| Listener { port, uid, inode });
        let found = listeners_in(table.join("\n").as_bytes()).unwrap();
        assert_eq!(found, expected);
        assert_eq!(listeners_in(HEADER.as_bytes()).unwrap(), []);
        assert_eq!(listeners_in(b"").unwrap(), []);
    }

    #[test]
    fn what_the_kernel_does_not_write_is_an_error() {
        for line in [
            "0:",
            "0: x",
            "0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0",
            "0: 0100007F:1F900 00000000:0000 0A 0:0 00:0 0 0 0 1",
            "0: 01:1F90 00000000:0000 0A 0:0 00:0 0 0 0 1",
            "0: 0100007\u{e9}:1F90 00000000:0000 0A 0:0 00:0 0 0 0 1",
        ] {
            let table = format!("{HEADER}\n{line}\n");
            let error = listeners_in(table.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{line}");
        }
    }

    #[test]
    fn only_a_socket_is_a_socket() {
        for (target, inode) in [
            ("socket:[4711]", Some(4711)),
            ("socket:[]", None),
            ("socket:[4711", None),
            ("socket:[4711] (deleted)", None),
            ("/socket:[4711]", None),
            ("pipe:[4711]", None),
            ("", None),
        ] {
            assert_eq!(socket_in(Path::new(target)), inode, "{target}");
        }
    }
}
