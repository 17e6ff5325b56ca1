//! System calls and libc calls under their manual-page names: the only folder with `unsafe`.
//!
//! Descriptors come in borrowed and go out owned. A call that fails returns errno as an
//! [`io::Error`]. `EINTR` is retried here, except by [`ppoll`], because only its caller knows how
//! much time is left.

use std::ffi::CString;
use std::io;

pub(crate) mod fs;
mod pidfd;
mod poll;
pub(crate) mod process;
mod regex;
pub(crate) mod signal;
pub(crate) mod spawn;

pub(crate) use fs::{
    CWD, FileSystem, Metadata, file_system, file_system_of, for_each_name, fstatat, open_directory,
    openat, pread, read, readlinkat,
};
pub(crate) use pidfd::{
    Scope, has_owner_group, owner, pidfd_get_parent, pidfd_open, pidfd_send_signal, pidfs_inode,
    set_owner, set_owner_group,
};
pub(crate) use poll::{Event, ppoll, since_boot, sleep, ticks_per_second};
pub(crate) use process::{ChildState, waitid_nowait};
pub(crate) use regex::Regex;
pub(crate) use signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM, kill, kill_group};

/// A number that can name one process: `1..=i32::MAX`. So it never means "my group" (0), "every
/// process" (-1) or a group (other negative numbers) to kill(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pid(libc::pid_t);

impl Pid {
    pub(crate) fn new(number: u32) -> Option<Pid> {
        libc::pid_t::try_from(number)
            .ok()
            .filter(|&pid| pid > 0)
            .map(Pid)
    }

    pub(crate) fn get(self) -> u32 {
        self.0.unsigned_abs()
    }

    pub(crate) fn is_caller(self) -> bool {
        self.get() == std::process::id()
    }

    pub(crate) fn is_init(self) -> bool {
        self.0 == 1
    }
}

/// memmem(3).
pub(crate) fn memmem(haystack: &[u8], needle: &CString) -> bool {
    let needle = needle.as_bytes();
    // SAFETY: both pointers are valid for reads of the lengths given.
    let found = unsafe {
        libc::memmem(
            haystack.as_ptr().cast(),
            haystack.len(),
            needle.as_ptr().cast(),
            needle.len(),
        )
    };
    !found.is_null()
}

fn check_fd(fd: libc::c_int) -> io::Result<libc::c_int> {
    check(fd).map(|()| fd)
}

fn check(rc: libc::c_int) -> io::Result<()> {
    match rc {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
