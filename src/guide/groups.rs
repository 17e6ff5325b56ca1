//! Groups, sessions, and why Ctrl-C does not reach a server in a group of its own.
//!
//! A **process group** is what a shell calls a job. One call signals all members at once, and none
//! escapes by forking. A process can leave its group (setpgid(2), setsid(2)).
//!
//! A **session** is a set of groups, with at most one terminal. A process gets into a session only
//! by being born in it or by founding it. So if a child has founded a session, every process in that
//! session descends from the child, even if its parents have ended.
//!
//! Which of them to choose for a child: see [`child::Group`](super::super::child::Group).
//!
//! # Ctrl-C
//!
//! The terminal sends SIGINT to its foreground group, and to nothing else. A child in `Group::New`
//! or `Group::NewSession` is in another group. Ctrl-C ends the caller, and the child lives on with
//! its port. The same is true of Ctrl-\\ and of a terminal that is closed. There are two ways out:
//!
//! **Stop the children yourself.** Handle SIGINT, SIGTERM and SIGHUP. A
//! [`Registry`](super::super::child::Registry) in a `static` knows what runs:
//!
//! ```no_run
//! use process_kill::Kill;
//! use process_kill::child::{CommandExt, Group, Registry};
//! use std::process::{Command, ExitStatus};
//! use tokio::task::spawn_blocking;
//!
//! static RUNNING: Registry = Registry::new();
//!
//! fn serve() -> process_kill::Result<ExitStatus> {
//!     let mut server = Command::new("server").spawn_managed(Group::New)?;
//!     let _ticket = RUNNING.add(&server)?;
//!     server.wait()
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     tokio::select! {
//!         status = spawn_blocking(serve) => println!("{}", status??),
//!         pressed = tokio::signal::ctrl_c() => {
//!             pressed?;
//!             let report = spawn_blocking(|| RUNNING.kill_all(&Kill::graceful())).await??;
//!             println!("{} gone", report.len());
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! `ctrl_c` is SIGINT; `tokio::signal::unix` has the others. Without a runtime, a thread does the
//! same with the crate `signal-hook`:
//!
//! ```no_run
//! # use process_kill::Kill;
//! # use process_kill::child::Registry;
//! # static RUNNING: Registry = Registry::new();
//! # fn work() {}
//! use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
//! let end = signals.handle();
//! let handler = std::thread::spawn(move || {
//!     let signal = signals.forever().next()?; // `None`: closed
//!     Some((signal, RUNNING.kill_all(&Kill::graceful())))
//! });
//! work(); // joins each thread that owns a child
//! end.close();
//! if let Ok(Some((signal, killed))) = handler.join() {
//!     if let Err(e) = killed {
//!         eprintln!("{e}");
//!     }
//!     std::process::exit(128 + signal);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A second signal changes nothing here. To end the grace with it, let another thread call
//! `RUNNING.kill_all(&Kill::now())`.
//!
//! **Join the threads before you exit.** When `kill_all` begins, a thread can be between
//! `spawn_managed` and `add`. Its `add` is refused, and it must end the child itself: dropping the
//! child does that. If the program exits before the drop is over, the child lives on or stays
//! stopped. A tokio runtime that is dropped waits for what `spawn_blocking` has started. It does
//! not after `std::process::exit`, `shutdown_timeout` or `shutdown_background`.
//!
//! **Stay in the caller's group** (`Group::Inherit`). Then Ctrl-C reaches both. The child has no
//! group that could be ended as a whole: [`Managed::stop`](super::super::child::Managed::stop)
//! takes its tree, and misses an orphan that has left it.
//!
//! # Traps
//!
//! - `std::process::exit`, `abort` and a signal that ends the program drop nothing. The children
//!   live on. If another thread is killing at that moment, its targets can stay stopped.
//! - Do not block the signals to wait for them with sigwait(3) or signalfd(2). A child inherits the
//!   mask of the thread that spawns it, also through `std::process::Command`. A child that blocks
//!   SIGTERM uses up its whole grace and then gets SIGKILL.
//! - The number of a group is no identity, just as a pid is none. Once the group is empty and its
//!   leader is reaped, the kernel can give the number to another group. `Managed` holds the leader
//!   by a pidfd.
