//! The same jobs by bare system calls, with buffers that are used again. There is less to do only
//! if less is promised.

use std::collections::HashMap;
use std::ffi::c_int;
use std::io::{Error, Write};
use std::mem::MaybeUninit;

/// /proc, opened once.
pub(crate) struct Floor {
    proc: c_int,
    path: Vec<u8>,
    names: Vec<u8>,
    buf: Vec<u8>,
    pub(crate) pids: Vec<u32>,
    pidfds: Vec<c_int>,
}

impl Floor {
    pub(crate) fn new() -> Floor {
        // SAFETY: a NUL-terminated path.
        let proc = unsafe { libc::open(c"/proc".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) };
        assert_ne!(proc, -1, "{}", Error::last_os_error());
        Floor {
            proc,
            path: Vec::with_capacity(64),
            names: vec![0; 32 << 10],
            buf: vec![0; 64 << 10],
            pids: Vec::with_capacity(64 << 10),
            pidfds: Vec::with_capacity(8 << 10),
        }
    }

    /// Lists /proc with getdents64(2) into `pids`.
    fn list(&mut self) {
        self.pids.clear();
        // SAFETY: an open descriptor.
        unsafe { libc::lseek(self.proc, 0, libc::SEEK_SET) };
        loop {
            let (to, room) = (self.names.as_mut_ptr(), self.names.len());
            // SAFETY: an open descriptor, and `to` is valid for writes of `room` bytes.
            let got = unsafe { libc::syscall(libc::SYS_getdents64, self.proc, to, room) };
            let mut entries = &self.names[..usize::try_from(got).unwrap()];
            if entries.is_empty() {
                return;
            }
            // struct linux_dirent64: d_reclen is at 16, d_name at 19.
            while let [.., _] = entries {
                let (entry, rest) =
                    entries.split_at(u16::from_ne_bytes([entries[16], entries[17]]).into());
                let digits = entry[19..].iter().take_while(|byte| byte.is_ascii_digit());
                let number = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
                self.pids.extend((number > 0).then_some(number));
                entries = rest;
            }
        }
    }

    /// Opens a file below /proc. `None`: it is not there any more.
    fn open(&mut self, path: std::fmt::Arguments<'_>) -> Option<c_int> {
        self.path.clear();
        write!(self.path, "{path}\0").unwrap();
        // SAFETY: an open descriptor, and a NUL-terminated path.
        let file = unsafe { libc::openat(self.proc, self.path.as_ptr().cast(), libc::O_RDONLY) };
        (file != -1).then_some(file)
    }

    /// Reads a file below /proc with one read(2). `None`: it is not there any more.
    fn read(&mut self, path: std::fmt::Arguments<'_>) -> Option<&[u8]> {
        let file = self.open(path)?;
        // SAFETY: an open descriptor, and `buf` is valid for writes of its length.
        let got = unsafe { libc::read(file, self.buf.as_mut_ptr().cast(), self.buf.len()) };
        // SAFETY: it was opened above.
        unsafe { libc::close(file) };
        Some(&self.buf[..usize::try_from(got).ok()?])
    }

    /// pread(2) of an open file.
    fn read_from_start(&mut self, file: c_int) -> &[u8] {
        let (to, room) = (self.buf.as_mut_ptr().cast(), self.buf.len());
        // SAFETY: an open descriptor, and `to` is valid for writes of `room` bytes.
        let got = unsafe { libc::pread(file, to, room, 0) };
        &self.buf[..usize::try_from(got).unwrap()]
    }

    /// Reads a file of each process, and returns how many bytes there were.
    pub(crate) fn read_of_each(&mut self, file: &str) -> usize {
        self.list();
        let mut bytes = 0;
        for at in 0..self.pids.len() {
            let pid = self.pids[at];
            bytes += self
                .read(format_args!("{pid}/{file}"))
                .map_or(0, <[u8]>::len);
        }
        bytes
    }

    /// One walk of the lists of children. It misses what another thread than the first has forked, and
    /// what the kernel omits while a child exits.
    pub(crate) fn descendants(&mut self, root: u32) -> usize {
        self.walk(root, |floor, pid| {
            let list = floor.read(format_args!("{pid}/task/{pid}/children"));
            list.unwrap().to_vec()
        })
    }

    /// As [`Floor::descendants`], with the calls that exclude both: the threads are counted before each
    /// of two reads.
    pub(crate) fn proven_descendants(&mut self, root: u32) -> usize {
        self.walk(root, |floor, pid| {
            floor.assert_one_thread(pid);
            let file = floor.open(format_args!("{pid}/task/{pid}/children"));
            let file = file.unwrap();
            let first = floor.read_from_start(file).to_vec();
            floor.assert_one_thread(pid);
            assert_eq!(floor.read_from_start(file), first);
            // SAFETY: it was opened above.
            unsafe { libc::close(file) };
            first
        })
    }

    fn walk(&mut self, root: u32, list: impl Fn(&mut Floor, u32) -> Vec<u8>) -> usize {
        let mut found = std::mem::take(&mut self.pids);
        found.clear();
        found.push(root);
        let mut walked = 0;
        while let Some(&pid) = found.get(walked) {
            let list = String::from_utf8(list(self, pid)).unwrap();
            found.extend(
                list.split_ascii_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
            walked += 1;
        }
        self.pids = found;
        walked - 1
    }

    /// The directory has a link for each thread, and two more.
    fn assert_one_thread(&mut self, pid: u32) {
        self.path.clear();
        write!(self.path, "{pid}/task\0").unwrap();
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        let (path, to) = (self.path.as_ptr().cast(), stat.as_mut_ptr());
        // SAFETY: an open descriptor, a NUL-terminated path, and `stat` is valid for writes.
        let rc = unsafe { libc::fstatat(self.proc, path, to, 0) };
        assert_eq!(rc, 0, "{}", Error::last_os_error());
        // SAFETY: filled by the successful fstatat.
        assert_eq!(unsafe { stat.assume_init() }.st_nlink, 3);
    }

    /// What a program does that does not know of lists of children.
    pub(crate) fn descendants_by_stat(&mut self, root: u32) -> usize {
        self.list();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for at in 0..self.pids.len() {
            let pid = self.pids[at];
            let Some(stat) = self.read(format_args!("{pid}/stat")) else {
                continue;
            };
            let end = stat.iter().rposition(|&b| b == b')').unwrap();
            let fields = std::str::from_utf8(&stat[end + 1..]).unwrap();
            let parent = fields.split_ascii_whitespace().nth(1).unwrap();
            let siblings = children.entry(parent.parse().unwrap());
            siblings.or_default().push(pid);
        }
        let mut found = vec![root];
        let mut walked = 0;
        while let Some(parent) = found.get(walked) {
            found.extend(children.remove(parent).unwrap_or_default());
            walked += 1;
        }
        walked - 1
    }

    /// Opens all and signals all, as the crate does. Then waits first for the process that was
    /// killed last.
    pub(crate) fn kill(&mut self, pids: &[u32]) {
        let mut pidfds = std::mem::take(&mut self.pidfds);
        for &pid in pids {
            // SAFETY: two integers.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            assert_ne!(fd, -1, "{}", Error::last_os_error());
            pidfds.push(c_int::try_from(fd).unwrap());
        }
        let no_info = std::ptr::null::<libc::siginfo_t>();
        for &fd in &pidfds {
            // SAFETY: an open descriptor, integers, and a null pointer, which is allowed.
            let rc = unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, no_info, 0)
            };
            assert_ne!(rc, -1, "{}", Error::last_os_error());
        }
        for &fd in pidfds.iter().rev() {
            let mut fds = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            assert_eq!(unsafe { libc::poll(&raw mut fds, 1, -1) }, 1);
            // SAFETY: it was opened above.
            unsafe { libc::close(fd) };
        }
        pidfds.clear();
        self.pidfds = pidfds;
    }
}
