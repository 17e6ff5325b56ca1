//! When a pid names the wrong process.
//!
//! A pid is a slot in a table. When a process has ended and was reaped, the kernel gives its number
//! to another process. After that the number names a stranger. `kill(pid, SIGKILL)` hits the
//! stranger, and nothing tells the caller.
//!
//! A [`ProcessId`](super::super::ProcessId) names one process: the pid, the time at which the
//! process started and, since Linux 6.9 on 64-bit machines, a number that the kernel never gives
//! twice in one boot. It can be written to a file and read again, also after a reboot.
//!
//! | you have | it is safe | give it to |
//! |---|---|---|
//! | the pid of a child of your own | until you wait for the child: a zombie keeps its number | [`Kill::tree`](super::super::Kill::tree), [`Kill::pids`](super::super::Kill::pids) |
//! | a pid from a file, a log or a user | never: it names whatever has the number now | first compare, or write identities instead |
//! | a pid that a search has just returned | as long as the process lives | [`processes_where`](super::super::processes_where) returns identities |
//! | a `ProcessId` | for ever, in one PID namespace | [`Kill::processes`](super::super::Kill::processes), [`Kill::trees`](super::super::Kill::trees) |
//!
//! ```
//! use process_kill::{Kill, ProcessId};
//!
//! let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
//! let id = ProcessId::of(child.id())?.expect("the child was not waited for");
//! Kill::now().processes(&[id])?;
//! child.wait()?; // from here on another process may get the number
//! assert!(id.is_gone()?); // and this stays true
//! assert_eq!(Kill::now().processes(&[id])?.len(), 1); // already gone; nothing was sent
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A held `Process` does not protect its number
//!
//! [`Process`](super::super::Process) holds a pidfd. A signal that is sent through it reaches that
//! process or none. But a pidfd does not reserve the number. Once the process is reaped, the kernel
//! may give the number away, although the `Process` is still held. So
//! `Kill::tree(process.id().pid())` can hit a stranger; `Kill::trees(&[process.id()])` cannot.
//!
//! # Limits
//!
//! Before Linux 6.9, and on 32-bit machines, the identity is pid and start time. The start time
//! counts clock ticks, mostly of 10 ms. A successor that got the number within the same tick cannot
//! be told apart.
//!
//! An identity belongs to one boot and one PID namespace. After a reboot the process is gone. In
//! another PID namespace the identity is an error and is never aimed at: in a container that shares
//! the file, and also after a container with the file on a volume was started again. Keep the file
//! where it ends with the container, or put the namespace (the link `/proc/self/ns/pid`) into its
//! name.
