//! What a process shows during execve(2) and exit: its command line, environment, program and
//! working directory.
//!
//! `cmdline` and `environ` are its texts, `exe` and `cwd` its links. Which task still has them:
//!
//! | the process | its text | its links |
//! |---|---|---|
//! | runs | the leader's | the leader's |
//! | is in execve(2), memory map new | blank until the last step | the leader's |
//! | was forked, before execve(2) | its parent's | its parent's |
//! | leader has exited, threads run | a live thread's | a live thread's |
//! | is exiting, memory map gone | stays blank | none |
//! | is a zombie or a kernel thread | stays blank | none |
//!
//! No descriptor tells when execve(2) is done, so the reader looks again and again. All pauses
//! between two calls of [`Proc::begin_scan`] share [`PATIENCE`]. An exiting process can be stuck
//! for ever, so it gets at most one pause.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::super::sys::{self, Metadata, Pid};
use super::dir::{Link, ProcessDir};
use super::stat::whole;
use super::{Proc, is_absent};

/// How long one scan pauses in all. An execve(2) takes far less than a millisecond, but it wakes
/// its parent before it is done: more than half of all children are in it right after
/// `Command::spawn`.
const PATIENCE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// How long a forked child of the caller counts as being about to call execve(2). The child of a
/// plain fork(2) shows the caller's text for as long as it lives. All such children age together,
/// so the pauses for them do not add up.
const FORK_AGE: Duration = Duration::from_millis(30);

/// A text that execve(2) sets up in its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// `cmdline`, proc_pid_cmdline(5).
    Arguments,
    /// `environ`, proc_pid_environ(5).
    Environment,
}

/// The result of reading a [`Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is no such process.
    Absent,
    /// The text is its own.
    Settled,
    /// It was in execve(2), or about to call it, until the patience was used up.
    Unsettled,
}

/// What one read of a [`Text`] shows.
enum Look {
    /// There is no such process.
    Absent,
    /// The text is its own, also if it is blank.
    Own,
    /// The process is in execve(2), or about to call it.
    InExec,
    /// The leader has exited. A live thread has the text.
    Left,
    /// The text is blank, or the same as the caller's. With the end of the environment.
    Blank(u64),
}

/// Where a process works, or which program it runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path that the process shows. If the file was deleted: the path it had.
    pub(crate) path: PathBuf,
    is_deleted: bool,
}

impl Proc {
    /// Starts a scan with its full patience.
    pub(crate) fn begin_scan(&self) {
        self.waited.set(Duration::ZERO);
    }

    /// Pauses; false: the patience is used up.
    pub(super) fn pause(&self) -> bool {
        if self.waited.get() >= PATIENCE {
            return false;
        }
        sys::sleep(PAUSE);
        // Counts the pause, not the time it took: on a busy machine that can be ten times as long.
        self.waited.set(self.waited.get() + PAUSE);
        true
    }
}

impl ProcessDir<'_> {
    /// Reads a text into `buf`. If the text is empty or all NULs, `stat` then holds the line of
    /// proc_pid_stat(5).
    pub(crate) fn text(
        &self,
        text: Text,
        buf: &mut Vec<u8>,
        stat: &mut Vec<u8>,
    ) -> io::Result<Reading> {
        // The end of the environment (an address that is new with each program), and how many reads
        // in a row were blank with that end.
        let mut blank = (0, 0);
        loop {
            match self.look_at_text(text, buf, stat)? {
                Look::Absent => return Ok(Reading::Absent),
                Look::Own => return Ok(Reading::Settled),
                // Accept a blank text only if three reads in a row saw the same end of the
                // environment: then no execve came between them. A single read may be of a leader
                // that a thread is replacing.
                Look::Blank(end) if blank == (end, 2) => return Ok(Reading::Settled),
                Look::Blank(end) if blank.0 == end => blank.1 += 1,
                Look::Blank(end) => blank = (end, 1),
                Look::Left if self.text_of_live_thread(text, buf)? => return Ok(Reading::Settled),
                Look::Left | Look::InExec => match self.proc.pause() {
                    true => blank = (0, 0),
                    false => return Ok(Reading::Unsettled),
                },
            }
        }
    }

    fn look_at_text(&self, text: Text, buf: &mut Vec<u8>, stat: &mut Vec<u8>) -> io::Result<Look> {
        // Without a memory map there is no environment to open (`ESRCH` in newer kernels). `stat`
        // says whether the process is there.
        if !self.read_text(text, buf)? {
            buf.clear();
        }
        let is_blank = buf.iter().all(|&b| b == 0);
        let is_callers = is_callers(text, buf, self.proc);
        if !is_blank && !is_callers {
            return Ok(Look::Own);
        }
        if !self.read(format_args!("stat"), stat)? {
            return Ok(Look::Absent);
        }
        // When a thread replaces its leader in execve(2), the leader looks reaped for a moment.
        let Some(seen) = whole(stat)? else {
            return Ok(Look::InExec);
        };
        if seen.is_kernel_thread() || seen.is_zombie() {
            return Ok(Look::Own);
        }
        if seen.has_left() {
            return Ok(Look::Left);
        }
        // It has no memory map any more, and may be stuck in this state for ever.
        if seen.is_exiting() {
            return Ok(Look::Own);
        }
        let is_borrowed =
            is_callers && seen.is_before_exec() && seen.parent == self.proc.caller().get();
        if seen.is_in_exec() || (is_borrowed && seen.age()? < FORK_AGE) {
            return Ok(Look::InExec);
        }
        Ok(match is_borrowed && !is_blank {
            // `stat` was read after the text and shows no execve yet. So the text is the child's own.
            true => Look::Own,
            false => Look::Blank(seen.env_end),
        })
    }

    /// Reads the text of a process whose leader has exited. False: read again.
    fn text_of_live_thread(&self, text: Text, buf: &mut Vec<u8>) -> io::Result<bool> {
        let Some(tid) = self.live_thread()? else {
            buf.clear();
            return Ok(true);
        };
        let read = tid != self.pid && self.read_text_of_thread(tid, text, buf)?;
        if read && !buf.is_empty() {
            return Ok(true);
        }
        // In execve(2) the thread takes the leader's number, and for a moment the dead leader has
        // the thread's. So an empty file is the thread's only if the thread still has its number.
        if self.live_thread()? != Some(tid) {
            return Ok(false);
        }
        if read {
            return Ok(true);
        }
        // If this thread is exiting, all that are left are exiting. They have no memory map, and
        // may be stuck. A leader that a thread is about to replace looks the same for a moment, so
        // one pause tells.
        let mut line = Vec::new();
        let stat = self.thread_stat(tid, &mut line)?;
        let is_stuck = stat.is_some_and(|stat| stat.is_exiting())
            && (!self.proc.pause() || self.live_thread()? == Some(tid));
        if is_stuck {
            buf.clear();
        }
        Ok(is_stuck)
    }

    /// The target of `exe` or `cwd`, as the kernel writes it.
    pub(crate) fn target(&self, link: Link) -> io::Result<PathBuf> {
        let name = link.file();
        self.of_live_task(|task| self.link(format_args!("{task}{name}")))
    }

    /// The target of `exe` or `cwd`, without the mark of a deleted file.
    pub(crate) fn place(&self, link: Link) -> io::Result<Place> {
        let shown = self.target(link)?;
        let Some(path) = shown.as_os_str().as_bytes().strip_suffix(b" (deleted)") else {
            return Ok(Place {
                path: shown,
                is_deleted: false,
            });
        };
        let here = self.metadata_of(link)?;
        // The file's own name may end in this mark. Then the path leads to the file. The link count
        // alone does not tell: overlayfs shows a deleted directory with a count of 1.
        let is_there = |there: Metadata| there.is_same_file(&here);
        let is_name = here.links > 0 && Metadata::of(&shown).is_ok_and(is_there);
        Ok(match is_name {
            true => Place {
                path: shown,
                is_deleted: false,
            },
            false => Place {
                path: OsStr::from_bytes(path).into(),
                is_deleted: true,
            },
        })
    }

    /// Whether the path of a place means the same file to the caller as to the process. In another
    /// mount namespace, or outside of the caller's root, it can be another file.
    ///
    /// Device and inode tell. The path of a deleted file leads nowhere, or to another file. Then
    /// the path is believed only in the caller's own mount namespace.
    pub(crate) fn is_in_view(&self, link: Link, place: &Place) -> io::Result<bool> {
        if !place.is_deleted {
            // An error says that the file was deleted since, is not visible here, or may not be
            // looked at.
            if let Ok(there) = Metadata::of(&place.path) {
                return Ok(self.metadata_of(link)?.is_same_file(&there));
            }
        }
        let own = match self.proc.mount_namespace()? {
            Some(own) => own,
            // A kernel without mount namespaces has one view.
            None => return Ok(true),
        };
        let its = self.of_live_task(|task| self.metadata(format_args!("{task}ns/mnt")))?;
        Ok(its.inode == own)
    }

    fn metadata_of(&self, link: Link) -> io::Result<Metadata> {
        let name = link.file();
        self.of_live_task(|task| self.metadata(format_args!("{task}{name}")))
    }

    /// Reads a file of the leader or, if the leader has exited, of a live thread. `read` gets the
    /// path of that task below the directory of the process.
    pub(super) fn of_live_task<T>(&self, read: impl Fn(&str) -> io::Result<T>) -> io::Result<T> {
        let mut buf = Vec::new();
        loop {
            let seen = match self.stat(&mut buf)? {
                Some(seen) if !seen.is_zombie() => seen,
                _ => return Err(io::ErrorKind::NotFound.into()),
            };
            let (has_left, is_kernel_thread) = (seen.has_left(), seen.is_kernel_thread());
            let mut is_exiting = seen.is_exiting();
            let mut task = String::new();
            if has_left {
                let Some(tid) = self.live_thread()? else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                let thread = self.thread_stat(tid, &mut buf)?;
                is_exiting = thread.is_some_and(|thread| thread.is_exiting());
                task = format!("task/{}/", tid.get());
            }
            match read(&task) {
                // In execve(2) a thread takes the place of its leader.
                Err(e)
                    if is_absent(&e) && !is_kernel_thread && !is_exiting && self.proc.pause() => {}
                read => return read,
            }
        }
    }

    fn read_text(&self, text: Text, buf: &mut Vec<u8>) -> io::Result<bool> {
        self.read(format_args!("{}", text.file()), buf)
    }

    fn read_text_of_thread(&self, tid: Pid, text: Text, buf: &mut Vec<u8>) -> io::Result<bool> {
        self.read_of_thread(tid, text.file(), buf)
    }
}

impl Link {
    fn file(self) -> &'static str {
        match self {
            Link::Exe => "exe",
            Link::Cwd => "cwd",
        }
    }
}

impl Text {
    fn file(self) -> &'static str {
        match self {
            Text::Arguments => "cmdline",
            Text::Environment => "environ",
        }
    }
}

/// Whether this is the caller's own text, as a forked child shows it until execve(2).
fn is_callers(text: Text, bytes: &[u8], proc: &Proc) -> bool {
    static ARGUMENTS: OnceLock<Vec<u8>> = OnceLock::new();
    static ENVIRONMENT: OnceLock<Vec<u8>> = OnceLock::new();
    let own = match text {
        Text::Arguments => &ARGUMENTS,
        Text::Environment => &ENVIRONMENT,
    };
    let own = own.get_or_init(|| {
        let mut own = Vec::new();
        // If it cannot be read, no text counts as the caller's.
        match proc.process(proc.caller()).read_text(text, &mut own) {
            Ok(true) => own,
            _ => Vec::new(),
        }
    });
    !own.is_empty() && own == bytes
}
