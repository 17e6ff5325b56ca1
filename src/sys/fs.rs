//! Files and directories: openat(2), read(2), fstatat(2), readlinkat(2), readdir(3), statfs(2).
//!
//! Everything under /proc is opened relative to a held descriptor of /proc. That is cheaper than an
//! absolute path, and it stays the same /proc if something else is mounted there later.

use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{check, check_fd, retry};

/// A file system, told by its magic number (statfs(2)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Proc,
    Cgroup2,
    Other,
}

impl FileSystem {
    fn of(fs: &libc::statfs) -> FileSystem {
        match magic(fs) {
            0x9fa0 => FileSystem::Proc,
            0x6367_7270 => FileSystem::Cgroup2,
            _ => FileSystem::Other,
        }
    }
}

/// statfs(2): the file system that `path` lies in.
pub(crate) fn file_system_of(path: &CStr) -> io::Result<FileSystem> {
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a NUL-terminated path, and `fs` is valid for writes.
    retry(|| check(unsafe { libc::statfs(path.as_ptr(), fs.as_mut_ptr()) }))?;
    // SAFETY: filled by the successful statfs.
    Ok(FileSystem::of(&unsafe { fs.assume_init() }))
}

/// fstatfs(2).
pub(crate) fn file_system(fd: BorrowedFd<'_>) -> io::Result<FileSystem> {
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `fs` is valid for writes, the descriptor is open.
    retry(|| check(unsafe { libc::fstatfs(fd.as_raw_fd(), fs.as_mut_ptr()) }))?;
    // SAFETY: filled by the successful fstatfs.
    Ok(FileSystem::of(&unsafe { fs.assume_init() }))
}

/// The magic number of a file system: 32 bits. `f_type` differs in width and sign by target.
pub(super) fn magic(fs: &libc::statfs) -> u64 {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the type of f_type differs by target"
    )]
    let wide = fs.f_type as u64;
    wide & 0xffff_ffff
}

/// The descriptor that stands for the working directory. Absolute paths do not begin there.
// SAFETY: AT_FDCWD is no descriptor that can be closed, and it is not -1.
pub(crate) const CWD: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };

/// openat(2) of a directory, to open other files relative to it.
pub(crate) fn open_directory(path: &CStr) -> io::Result<OwnedFd> {
    open_from(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_DIRECTORY)
}

/// openat(2) for reading.
pub(crate) fn openat(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open_from(dir.as_raw_fd(), path, libc::O_RDONLY)
}

/// openat(2) for writing. Never creates a file.
pub(crate) fn openat_to_write(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open_from(dir.as_raw_fd(), path, libc::O_WRONLY)
}

fn open_from(dir: libc::c_int, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | flags;
    // SAFETY: an open descriptor or AT_FDCWD, and a NUL-terminated path.
    let fd = retry(|| check_fd(unsafe { libc::openat(dir, path.as_ptr(), flags) }))?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// read(2) into the spare capacity of `buf`. Returns how many bytes came; 0 is end-of-file.
pub(crate) fn read(file: BorrowedFd<'_>, buf: &mut Vec<u8>) -> io::Result<usize> {
    // SAFETY: the descriptor is open, and `fill` gives a pointer that is valid for `room` bytes.
    fill(buf, |to, room| unsafe {
        libc::read(file.as_raw_fd(), to, room)
    })
}

/// As [`read`], by pread(2) from an offset.
pub(crate) fn pread(file: BorrowedFd<'_>, buf: &mut Vec<u8>, from: usize) -> io::Result<usize> {
    let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and `fill` gives a pointer that is valid for `room` bytes.
    fill(buf, |to, room| unsafe {
        libc::pread(file.as_raw_fd(), to, room, from)
    })
}

/// Makes a call that writes to the spare capacity of `buf`, which it gets as a pointer and a length.
/// The call must return how many bytes it has written, or -1.
fn fill(
    buf: &mut Vec<u8>,
    call: impl Fn(*mut libc::c_void, usize) -> libc::ssize_t,
) -> io::Result<usize> {
    let spare = buf.spare_capacity_mut();
    let (start, room) = (spare.as_mut_ptr().cast(), spare.len());
    let got = retry(|| match call(start, room) {
        -1 => Err(io::Error::last_os_error()),
        got => Ok(got.unsigned_abs()),
    })?;
    // SAFETY: the kernel has written `got` bytes behind the old length, within the capacity.
    unsafe { buf.set_len(buf.len() + got) };
    Ok(got)
}

/// fcntl(2) `O_NONBLOCK`: a read of an empty pipe is `EAGAIN`, also if another reader was faster.
pub(crate) fn set_nonblocking(file: BorrowedFd<'_>) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: integers only, and the descriptor is open.
    let flags = check_fd(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// ioctl(2) `FIONREAD`: how many bytes are in a pipe.
pub(crate) fn bytes_to_read(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and the descriptor is open.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    usize::try_from(bytes).map_err(io::Error::other)
}

/// What fstatat(2) tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
}

impl Metadata {
    /// stat(2) of what a path leads to.
    pub(crate) fn of(path: &Path) -> io::Result<Metadata> {
        let file = retry(|| std::fs::metadata(path))?;
        Ok(Metadata {
            device: file.dev(),
            inode: file.ino(),
            links: file.nlink(),
        })
    }

    pub(crate) fn is_same_file(&self, other: &Metadata) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// fstatat(2); follows links. A link under /proc leads to its file even if its text names another
/// one.
pub(crate) fn fstatat(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<Metadata> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let (fd, to) = (dir.as_raw_fd(), stat.as_mut_ptr());
    // SAFETY: an open descriptor, a NUL-terminated path, and `stat` is valid for writes.
    retry(|| check(unsafe { libc::fstatat(fd, path.as_ptr(), to, 0) }))?;
    // SAFETY: filled by the successful fstatat.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "narrower on some targets")]
    Ok(Metadata {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
    })
}

/// readlinkat(2).
pub(crate) fn readlinkat(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<PathBuf> {
    const MOST: usize = 1 << 20;
    let mut target: Vec<u8> = Vec::with_capacity(4096);
    loop {
        let spare = target.spare_capacity_mut();
        let (to, room) = (spare.as_mut_ptr().cast(), spare.len());
        let got = retry(|| {
            // SAFETY: an open descriptor, a NUL-terminated path, `to` is valid for `room` bytes.
            match unsafe { libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), to, room) } {
                -1 => Err(io::Error::last_os_error()),
                got => Ok(got.unsigned_abs()),
            }
        })?;
        if got < room || room >= MOST {
            // SAFETY: the kernel has written `got` bytes, within the capacity.
            unsafe { target.set_len(got) };
            return Ok(OsString::from_vec(target).into());
        }
        // The text fills the buffer, so it may have been cut.
        target.reserve(2 * room);
    }
}

/// Calls `each` with every name in a directory (readdir(3)). Unlike `std::fs::read_dir` it
/// allocates nothing for each name.
pub(crate) fn for_each_name(
    dir: BorrowedFd<'_>,
    path: &CStr,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    for_each_entry(dir, path, |name, _| each(name))
}

/// As [`for_each_name`], for the directories in it. The file system must tell the types with the names
/// (`d_type`), as cgroup2 does.
pub(crate) fn for_each_directory(
    dir: BorrowedFd<'_>,
    path: &CStr,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    for_each_entry(dir, path, |name, of_type| {
        if of_type == libc::DT_DIR && !matches!(name, b"." | b"..") {
            each(name);
        }
    })
}

fn for_each_entry(
    dir: BorrowedFd<'_>,
    path: &CStr,
    mut each: impl FnMut(&[u8], u8),
) -> io::Result<()> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let stream = Stream::open(open_from(dir.as_raw_fd(), path, flags)?)?;
    loop {
        // Only errno tells the end of a directory from an error.
        // SAFETY: errno is this thread's own.
        unsafe { *errno() = 0 };
        // SAFETY: `stream.0` is an open directory stream that no other thread uses.
        let entry = unsafe { libc::readdir(stream.0) };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(0) => return Ok(()),
                // The next call goes on where this one stopped.
                Some(libc::EINTR) => continue,
                _ => return Err(error),
            }
        }
        // SAFETY: d_name is NUL-terminated and stays valid until the next readdir of this stream.
        let name = unsafe { CStr::from_ptr((&raw const (*entry).d_name).cast()) };
        // SAFETY: the entry stays valid as long as its name.
        each(name.to_bytes(), unsafe { (*entry).d_type });
    }
}

/// An open directory stream.
struct Stream(*mut libc::DIR);

impl Stream {
    fn open(fd: OwnedFd) -> io::Result<Stream> {
        // fdopendir(3) calls fstat(2).
        let stream = retry(|| {
            // SAFETY: an open descriptor of a directory. On success the stream owns it.
            let stream = unsafe { libc::fdopendir(fd.as_fd().as_raw_fd()) };
            match stream.is_null() {
                true => Err(io::Error::last_os_error()),
                false => Ok(stream),
            }
        })?;
        std::mem::forget(fd);
        Ok(Stream(stream))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: opened above and closed only here. The directory was only read, so nothing is
        // lost if closing fails.
        unsafe { libc::closedir(self.0) };
    }
}

#[cfg(not(target_os = "android"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: always valid: each thread has its errno.
    unsafe { libc::__errno_location() }
}

#[cfg(target_os = "android")]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: always valid: each thread has its errno.
    unsafe { libc::__errno() }
}
