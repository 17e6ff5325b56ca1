//! What listens on a port, until nothing does.
//!
//! 1. Stop the listeners, and list them again, until there is no new one.
//! 2. Kill them, and wait for them.
//! 3. List again. If there is no new one, the port is free, or only survivors and spared processes
//!    listen. If there is one, start again.

use super::super::super::error::{Error, Result};
use super::super::super::find::listeners::{holds, listeners, listening_on};
use super::super::super::process::pid_of;
use super::super::super::report::{Outcome, Report};
use super::super::super::targets::found::Added;
use super::super::super::targets::{Proof, Targets};
use super::super::super::wait::Deadline;
use super::super::{Found, Kill, Selection, freeze, retry};
use super::stop;

impl Kill {
    /// Kills every process that listens on a TCP port, as
    /// [`pids_listening_on`](super::super::super::pids_listening_on) finds them, until none does.
    /// After `Ok` the port can be bound at once by a socket with `SO_REUSEADDR`, as
    /// `std::net::TcpListener` sets it. It can still be in use by the last connections of a server
    /// that did not set it, or by a socket that is bound and does not listen.
    ///
    /// Clients of the port are left alone. If several processes share the socket, as the children
    /// of a server do, all of them are targets. All are stopped before the first gets SIGKILL, so a
    /// server that is started again and again is caught too. If none listens, that is no error.
    ///
    /// # Errors
    /// `Refused`: port 0. `Survivors`: some are not gone; or a process listens that is spared
    /// (init, the caller, one of its ancestors). `Unproven`: new listeners keep coming, or one was left
    /// alone because of [`Kill::at_most`]. `Io` with a
    /// source of kind `PermissionDenied`: the owner of a listening socket cannot be seen, and
    /// nothing was sent. `Proc` or `Io`: /proc cannot be used or read, and nothing was sent.
    ///
    /// ```no_run
    /// process_kill::Kill::graceful().port(8080)?;
    /// let server = std::net::TcpListener::bind("127.0.0.1:8080")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn port(&self, port: u16) -> Result<Report> {
        self.run(Listening { port })
    }
}

struct Listening {
    port: u16,
}

impl Listening {
    /// Adds the listeners. True: another look is needed, because there was a new one, or one that
    /// was gone before it was held.
    fn add(&self, targets: &mut Targets<'_>) -> Result<bool> {
        let pids = listening_on(self.port, targets.proc()?)?;
        if pids.is_empty() {
            return Ok(false);
        }
        let sockets = listeners(self.port, targets.proc()?);
        let sockets = sockets.map_err(|e| Error::io("read the TCP sockets", e))?;
        targets.read_spared()?;
        let mut is_new = false;
        for number in pids {
            let pid = pid_of(number)?;
            if let Some(reason) = targets.spared_reason(pid) {
                targets.add_refused(pid, reason);
                continue;
            }
            let added = targets.add_match(pid, |proc| holds(&proc.process(pid), &sockets))?;
            is_new |= added != Added::Known;
        }
        Ok(is_new)
    }
}

impl Selection for Listening {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        self.add(targets)?;
        Ok(())
    }

    fn find(&mut self, targets: &mut Targets<'_>, _: Deadline) -> Result<Found> {
        Ok(Found {
            is_new: self.add(targets)?,
            is_complete: true,
        })
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        loop {
            let frozen_by = freeze::frozen_by(deadline);
            retry(frozen_by, || {
                stop(targets, frozen_by)?;
                while self.add(targets)? && !frozen_by.has_passed() {
                    stop(targets, frozen_by)?;
                }
                Ok(())
            })?;
            targets.kill(deadline, Outcome::Exited);
            // What still listens is a survivor, or is spared.
            if !retry(deadline, || self.add(targets))? {
                return match targets.all_live().next() {
                    _ if targets.has_saved() => Ok(Proof::NONE),
                    None => Ok(Proof::EXACT),
                    Some(_) => Ok(Proof::BEST_EFFORT),
                };
            }
            if deadline.has_passed() {
                return Ok(Proof::NONE);
            }
        }
    }
}
