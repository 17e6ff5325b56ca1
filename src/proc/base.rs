//! /proc itself: how it is opened, and how paths below it begin.

use std::ffi::CStr;
use std::fmt;
use std::io::{self, Cursor, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::error::{Error, Result};
use super::super::sys::{self, FileSystem};
use super::is_no_room;

/// Opens /proc if it is a procfs. `None`: it is one, and there are too few descriptors to hold it.
pub(super) fn open_root() -> Result<Option<OwnedFd>> {
    /// /proc is held only if so many more descriptors are free. With fewer, one is for a pidfd, and
    /// another for a file.
    const ENOUGH: usize = 4;
    let unreachable = |e: io::Error| match e.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Error::io("open /proc", e),
        _ => Error::proc("it cannot be reached", Some(e)),
    };
    let root = match sys::open_directory(c"/proc") {
        Err(e) if is_no_room(&e) => None,
        opened => Some(opened.map_err(unreachable)?),
    };
    let file_system = match &root {
        Some(root) => sys::file_system(root.as_fd()),
        None => sys::file_system_of(c"/proc"),
    };
    match file_system {
        Ok(FileSystem::Proc) => {}
        Ok(_) => return Err(Error::proc("no procfs is mounted there", None)),
        Err(e) => return Err(unreachable(e)),
    }
    Ok(root.filter(|root| {
        let others = (0..ENOUGH).map_while(|_| root.try_clone().ok());
        others.collect::<Vec<_>>().len() == ENOUGH
    }))
}

/// Where paths begin: in a held directory, or in /proc by its absolute path.
#[derive(Clone, Copy)]
pub(super) struct Base<'d> {
    pub(super) dir: BorrowedFd<'d>,
    pub(super) prefix: &'static str,
}

impl<'d> Base<'d> {
    pub(super) fn held(dir: &'d OwnedFd) -> Base<'d> {
        Base {
            dir: dir.as_fd(),
            prefix: "",
        }
    }

    /// Paths below /proc are short: numbers and fixed names.
    pub(super) fn with_path<T>(
        self,
        path: fmt::Arguments<'_>,
        open: impl FnOnce(BorrowedFd<'_>, &CStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut bytes = Cursor::new([0_u8; 64]);
        write!(bytes, "{}{path}\0", self.prefix)?;
        let path = CStr::from_bytes_until_nul(bytes.get_ref());
        open(self.dir, path.map_err(|_| io::ErrorKind::InvalidInput)?)
    }
}
