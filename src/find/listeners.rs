//! Which processes listen on a port.
//!
//! 1. The table of sockets says which of them listen on the port.
//! 2. All processes are looked at: which of them hold one of these sockets?
//! 3. The table is read again. If every socket in it was seen held, that is the answer.
//! 4. If not, a process may have closed a socket, opened one, or given one to a process that had
//!    been looked at before. So steps 2 and 3 are repeated with the later table, until [`PATIENCE`]
//!    is used up.
//!
//! The answer is empty only if two tables in a row are empty, because one alone may leave out a
//! socket.

use std::io;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::net::{Listener, Tables};
use super::super::proc::{self, Proc, ProcessDir};
use super::super::sys;
use super::super::wait::Deadline;

/// How long a socket may have no visible owner, if [`LOOKS`] do not take longer. An exiting process
/// holds its sockets until its memory is given back, and shows them only to root meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// How often all processes are looked at before a socket counts as having no owner.
const LOOKS: u32 = 4;

/// The limit if every look shows a new socket.
const MOST_LOOKS: u32 = 64;

/// The processes that listen on a TCP port, ascending, the caller included. An empty list means
/// that no process listens on the port here.
///
/// They listen by IPv4 or IPv6, on any address, in the network namespace of the calling thread.
///
/// A process listens if it holds a descriptor of the listening socket. If several share the socket,
/// as the children of a server do, all of them are listed. Clients are not listed, and neither are
/// servers that have only connections left.
///
/// The list has every process that holds the socket throughout the call. If the caller may not look
/// into a process (another user's), it is left out if another process is seen to hold the same
/// socket. The same is true if only a thread holds the socket, in a table of its own (unshare(2) with
/// `CLONE_FILES`), and the caller may not use kcmp(2), as in a container without `CAP_SYS_PTRACE`.
///
/// # Errors
/// `Refused`: port 0. `Proc`: /proc cannot be used. `Io`: reading it failed. `Io` with a source of
/// kind `PermissionDenied`: the owner of a listening socket cannot be seen. It is another user's
/// process, one outside of the caller's PID namespace, or the kernel itself, as for NFS. If many
/// processes open and close sockets of this port all the time, one may be missed too. The text of
/// `source()` names the socket's user.
///
/// # Kernel versions
/// Linux 3.17, for /proc/thread-self (proc_pid_net(5), proc_pid_fd(5)). For each table the kernel
/// walks all of its TCP sockets. That takes some milliseconds, more if there are many connections.
///
/// ```
/// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let port = server.local_addr()?.port();
/// assert_eq!(process_kill::pids_listening_on(port)?, [std::process::id()]);
/// drop(server);
/// assert!(process_kill::pids_listening_on(port)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_listening_on(port: u16) -> Result<Vec<u32>> {
    listening_on(port, &Proc::open()?)
}

/// As [`pids_listening_on`].
pub(crate) fn listening_on(port: u16, proc: &Proc) -> Result<Vec<u32>> {
    if port == 0 {
        return Err(Error::refused("0 is not a port (1 to 65535)"));
    }
    let deadline = Deadline::after(PATIENCE);
    let table = || listeners(port, proc).map_err(|e| Error::io("read the TCP sockets", e));
    let mut asked = table()?;
    let mut tables = Tables::Different;
    let mut looks = 0;
    loop {
        let owners = owners(&asked, tables, proc)?;
        let now = table()?;
        looks += 1;
        let is_held = |socket: &&Listener| owners.sockets.contains(&socket.inode);
        match now.iter().find(|socket| !is_held(socket)) {
            None if !owners.pids.is_empty() || asked.is_empty() => return Ok(owners.pids),
            // All were closed before their owners were found.
            None => {}
            Some(socket) if asked.contains(socket) => {
                if looks >= LOOKS && deadline.has_passed() {
                    return Err(owner_unseen(*socket));
                }
                // kcmp(2) may not tell. Only now, because it reads every thread on the machine.
                tables = Tables::OfThreads;
                sys::sleep(PAUSE);
            }
            Some(socket) if looks >= MOST_LOOKS => return Err(owner_unseen(*socket)),
            // It was opened meanwhile.
            Some(_) => {}
        }
        asked = now;
    }
}

/// The sockets that listen on a port in the network namespace of the calling thread, each once.
pub(crate) fn listeners(port: u16, proc: &Proc) -> io::Result<Vec<Listener>> {
    let mut found = proc.listeners()?;
    found.retain(|socket| socket.port == port);
    found.sort_unstable_by_key(|socket| socket.inode);
    found.dedup_by_key(|socket| socket.inode);
    Ok(found)
}

/// Whether a process holds a descriptor of one of these sockets.
pub(crate) fn holds(process: &ProcessDir<'_>, sockets: &[Listener]) -> io::Result<bool> {
    let held = process.sockets_among(&inodes(sockets), Tables::OfThreads)?;
    Ok(!held.is_empty())
}

#[derive(Default)]
struct Owners {
    /// Ascending.
    pids: Vec<u32>,
    /// The inodes of the sockets that they hold.
    sockets: Vec<u64>,
}

/// The processes that hold these sockets.
fn owners(sockets: &[Listener], tables: Tables, proc: &Proc) -> Result<Owners> {
    let mut owners = Owners::default();
    if sockets.is_empty() {
        return Ok(owners);
    }
    let inodes = inodes(sockets);
    proc.begin_scan();
    for pid in proc::visible(proc)? {
        let held = proc.process(pid).sockets_among(&inodes, tables);
        let held = proc::readable(pid, held.map(Some))?.unwrap_or_default();
        if !held.is_empty() {
            owners.pids.push(pid.get());
            owners.sockets.extend(held);
        }
    }
    Ok(owners)
}

fn inodes(sockets: &[Listener]) -> Vec<u64> {
    sockets.iter().map(|socket| socket.inode).collect()
}

fn owner_unseen(Listener { port, uid, .. }: Listener) -> Error {
    let why =
        format!("port {port} is listened on by a socket of user {uid} whose owner cannot be seen");
    Error::io(
        format!("tell which processes listen on port {port}"),
        io::Error::new(io::ErrorKind::PermissionDenied, why),
    )
}
