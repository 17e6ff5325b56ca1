//! The output pipes of a child, read while the child is waited for.
//!
//! A pipe is open until its end-of-file or its first error. Every byte is shown once, and the first
//! `most` bytes are kept. Nothing here blocks except a wait with a timeout.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::super::sys::{self, Event};
use super::super::wait::Wait;

/// How many bytes are read at once.
const SIZE: usize = 65536;

/// Which of the two output pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Is called with each piece as it is read.
type OnBytes<'f> = &'f mut dyn FnMut(Stream, &[u8]);

/// A pipe, and the first bytes that came through it.
pub(crate) struct Pipe {
    stream: Stream,
    /// `None`: there is no pipe, no writer is left, or a read failed.
    end: Option<File>,
    pub(crate) bytes: Vec<u8>,
    most: usize,
    /// More bytes came than are kept.
    pub(crate) is_cut: bool,
}

impl Pipe {
    fn new(stream: Stream, end: Option<OwnedFd>, most: usize) -> Pipe {
        Pipe {
            stream,
            end: end.map(File::from),
            bytes: Vec::new(),
            most,
            is_cut: false,
        }
    }

    /// Reads once. A poll has said that this does not block. Returns how many bytes came.
    fn read(&mut self, buf: &mut [u8], on_bytes: OnBytes<'_>) -> io::Result<usize> {
        let Some(end) = &mut self.end else {
            return Ok(0);
        };
        let read = match end.read(buf) {
            Ok(0) => {
                self.end = None;
                return Ok(0);
            }
            Ok(read) => read,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                return Ok(0);
            }
            Err(e) => {
                self.end = None;
                return Err(e);
            }
        };
        on_bytes(self.stream, &buf[..read]);
        let kept = read.min(self.most - self.bytes.len());
        self.bytes.extend_from_slice(&buf[..kept]);
        self.is_cut |= kept < read;
        Ok(read)
    }

    /// Reads the bytes that are in the pipe now, and none that are written meanwhile.
    fn read_what_is_there(&mut self, buf: &mut [u8], on_bytes: OnBytes<'_>) -> io::Result<()> {
        let Some(end) = &self.end else {
            return Ok(());
        };
        let mut left = sys::fs::bytes_to_read(end.as_fd())?;
        while left > 0 {
            let most = left.min(buf.len());
            match self.read(&mut buf[..most], on_bytes)? {
                0 => break,
                read => left -= read,
            }
        }
        Ok(())
    }
}

/// Standard output and standard error of a child.
pub(crate) struct Pipes<'f> {
    pub(crate) stdout: Pipe,
    pub(crate) stderr: Pipe,
    /// The first read error. It closed its pipe.
    pub(crate) error: Option<io::Error>,
    buf: Vec<u8>,
    on_bytes: OnBytes<'f>,
}

/// What ended a wait. Both are false if the time did.
pub(crate) struct Woken {
    /// The pidfd is readable.
    pub(crate) by_end: bool,
    /// Bytes were read.
    pub(crate) by_bytes: bool,
}

impl<'f> Pipes<'f> {
    /// Keeps `most` bytes of each pipe, and shows all to `on_bytes`.
    pub(crate) fn new(
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        most: usize,
        on_bytes: OnBytes<'f>,
    ) -> Pipes<'f> {
        Pipes {
            stdout: Pipe::new(Stream::Stdout, stdout, most),
            stderr: Pipe::new(Stream::Stderr, stderr, most),
            error: None,
            buf: Vec::new(),
            on_bytes,
        }
    }

    /// Whether no process can write any more.
    pub(crate) fn are_closed(&self) -> bool {
        self.stdout.end.is_none() && self.stderr.end.is_none()
    }

    /// Reads the bytes that are in the pipes now, and none that are written meanwhile.
    pub(crate) fn read_what_is_there(&mut self) -> io::Result<()> {
        self.buf.resize(SIZE, 0);
        self.stdout
            .read_what_is_there(&mut self.buf, self.on_bytes)?;
        self.stderr.read_what_is_there(&mut self.buf, self.on_bytes)
    }

    /// Waits until the pidfd is readable or a pipe is, and reads the pipe. It may return early,
    /// also with `EINTR`, because only its caller knows how much time is left.
    pub(crate) fn wait(
        &mut self,
        pidfd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let [stdout, stderr] =
            [&self.stdout, &self.stderr].map(|pipe| pipe.end.as_ref().map(AsFd::as_fd));
        let [by_end, out, err] = sys::ppoll([pidfd, stdout, stderr], Event::Readable, timeout)?;
        let mut by_bytes = false;
        for (is_ready, pipe) in [(out, &mut self.stdout), (err, &mut self.stderr)] {
            if is_ready {
                self.buf.resize(SIZE, 0);
                match pipe.read(&mut self.buf, self.on_bytes) {
                    Ok(read) => by_bytes |= read > 0,
                    Err(e) => self.error = self.error.take().or(Some(e)),
                }
            }
        }
        Ok(Woken { by_end, by_bytes })
    }
}

/// Reads the pipes of a child while it is waited for: a child that cannot write cannot handle a
/// signal either.
impl Wait for &mut Pipes<'_> {
    fn wait(
        &mut self,
        pidfd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        Pipes::wait(self, pidfd, timeout).map(|woken| woken.by_end)
    }
}
