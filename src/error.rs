//! The one error type: opaque, with a kind to match on.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use super::report::{Reason, Report, Survivor};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not every target is gone: see [`Error::survivors`] and [`Error::report`].
    Survivors,
    /// Every target that was found is gone, but it is not proven that all were found. New ones kept
    /// coming until the deadline, or some cannot be seen, or a process is left that may be the child
    /// of a target or a stranger's, or that [`Kill::at_most`](super::Kill::at_most) saved. See
    /// [`Error::left_alone`] and [`Error::report`].
    ///
    /// Do not just kill a tree again: its root is gone, so the second call finds nothing, and is `Ok`.
    Unproven,
    /// More was found than [`Kill::at_most`](super::Kill::at_most) allows. Nothing was sent.
    /// [`Error::survivors`] lists what was found.
    TooMany,
    /// An argument is invalid, or names what must not be killed. Nothing was sent.
    Refused,
    /// The pattern is empty, too large, or regcomp(3) refused it.
    Pattern,
    /// /proc is missing, is no procfs, or belongs to another PID namespace.
    Proc,
    /// A system call failed; `source()` has its error.
    Io,
    /// The work panicked on the pool of the async runtime (feature `tokio`).
    Task,
}

/// Why a call did not end in "verified gone".
///
/// `Display` names the first ten survivors with pid, name and reason, and how many more there are. It
/// does not repeat its `source()`: a log needs both. `Debug` is that text and the source, because
/// `unwrap` and a `main` that returns the error print `Debug`. `{:#?}` shows the survivors and the
/// report field by field. If the calling thread had no processor for most of the time since it began to
/// stop a tree, the text says so; see [`guide::survivors`](super::guide::survivors).
///
/// ```
/// use process_kill::{ErrorKind, Kill, Reason};
///
/// let me = std::process::id();
/// let error = Kill::now().pids(&[me]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Survivors);
/// for survivor in error.survivors() {
///     assert_eq!((survivor.pid(), survivor.reason()), (me, Reason::Caller));
/// }
/// assert!(format!("{error:?}").ends_with("is the calling process"));
/// ```
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    left_alone: Vec<Survivor>,
    /// How long the calling thread waited for a processor, if it did little else.
    starved: Option<Duration>,
    /// What another module has attached, as `child` attaches its output.
    more: Option<Box<dyn Any + Send + Sync>>,
}

#[derive(Debug)]
enum What {
    Survivors {
        survivors: Vec<Survivor>,
        report: Report,
        /// The time since SIGKILL was first sent; `None`: it was not sent.
        killed: Option<Duration>,
        /// False: more may be left than was found.
        is_complete: bool,
    },
    Unproven(Report),
    TooMany {
        found: Vec<Survivor>,
        most: usize,
        report: Report,
    },
    Refused(Cow<'static, str>),
    Pattern(String),
    Proc(&'static str, Option<io::Error>),
    Io(Cow<'static, str>, io::Error),
    #[cfg(feature = "tokio")]
    Task(String),
}

impl Error {
    /// What went wrong, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.0.what {
            What::Survivors { .. } => ErrorKind::Survivors,
            What::Unproven(_) => ErrorKind::Unproven,
            What::TooMany { .. } => ErrorKind::TooMany,
            What::Refused(_) => ErrorKind::Refused,
            What::Pattern(_) => ErrorKind::Pattern,
            What::Proc(..) => ErrorKind::Proc,
            What::Io(..) => ErrorKind::Io,
            #[cfg(feature = "tokio")]
            What::Task(_) => ErrorKind::Task,
        }
    }

    /// The processes that are not gone, and why, in the order first named or found. For
    /// [`ErrorKind::TooMany`]: the processes that were found. Empty for all other kinds but
    /// [`ErrorKind::Survivors`].
    #[must_use]
    pub fn survivors(&self) -> &[Survivor] {
        match &self.0.what {
            What::Survivors { survivors, .. } => survivors,
            What::TooMany { found, .. } => found,
            _ => &[],
        }
    }

    /// Live processes that were left alone, because they may be the children of targets or a stranger's,
    /// or because of [`Kill::at_most`](super::Kill::at_most); ascending. They are a cause of
    /// [`ErrorKind::Unproven`], and can be there for [`ErrorKind::Survivors`]. If you know that one is
    /// yours, end it by its [identity](Survivor::id) with [`Kill::trees`](super::Kill::trees).
    #[must_use]
    pub fn left_alone(&self) -> &[Survivor] {
        &self.0.left_alone
    }

    /// What did end. `Some` for [`ErrorKind::Survivors`], [`ErrorKind::Unproven`] and
    /// [`ErrorKind::TooMany`]; for the last it is empty.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match &self.0.what {
            What::Survivors { report, .. }
            | What::Unproven(report)
            | What::TooMany { report, .. } => Some(report),
            _ => None,
        }
    }

    pub(crate) fn survived(
        survivors: Vec<Survivor>,
        report: Report,
        killed: Option<Duration>,
        is_complete: bool,
    ) -> Error {
        Error::of(What::Survivors {
            survivors,
            report,
            killed,
            is_complete,
        })
    }

    pub(crate) fn unproven(report: Report) -> Error {
        Error::of(What::Unproven(report))
    }

    pub(crate) fn too_many(found: Vec<Survivor>, most: usize, report: Report) -> Error {
        Error::of(What::TooMany {
            found,
            most,
            report,
        })
    }

    pub(crate) fn refused(why: impl Into<Cow<'static, str>>) -> Error {
        Error::of(What::Refused(why.into()))
    }

    pub(crate) fn pattern(why: String) -> Error {
        Error::of(What::Pattern(why))
    }

    pub(crate) fn proc(why: &'static str, source: Option<io::Error>) -> Error {
        Error::of(What::Proc(why, source))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn task(why: String) -> Error {
        Error::of(What::Task(why))
    }

    pub(crate) fn io(doing: impl Into<Cow<'static, str>>, source: io::Error) -> Error {
        Error::of(What::Io(doing.into(), source))
    }

    fn of(what: What) -> Error {
        Error(Box::new(Inner {
            what,
            left_alone: Vec::new(),
            starved: None,
            more: None,
        }))
    }

    pub(crate) fn with_left_alone(mut self, left_alone: Vec<Survivor>) -> Error {
        self.0.left_alone = left_alone;
        self
    }

    pub(crate) fn with_starved(mut self, starved: Option<Duration>) -> Error {
        self.0.starved = starved;
        self
    }

    pub(crate) fn with(mut self, more: impl Any + Send + Sync) -> Error {
        self.0.more = Some(Box::new(more));
        self
    }

    pub(crate) fn more<T: Any>(&self) -> Option<&T> {
        self.0.more.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_what(f)?;
        match self.0.starved {
            Some(time) => {
                let time = time.as_secs_f64();
                write!(f, "; the calling thread waited {time:.1} s for a processor")
            }
            None => Ok(()),
        }
    }
}

impl Error {
    fn fmt_what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.what {
            What::Survivors {
                survivors,
                report,
                killed,
                is_complete,
            } => {
                survived(survivors, report, *killed, f)?;
                list(survivors, f, <Survivor as fmt::Display>::fmt)?;
                match is_complete {
                    true => Ok(()),
                    false => {
                        f.write_str("; more may be left than were found")?;
                        list(&self.0.left_alone, f, Survivor::fmt_name)
                    }
                }
            }
            What::Unproven(report) => {
                let (ended, time) = (Processes(report.len()), report.elapsed().as_secs_f64());
                write!(
                    f,
                    "not proven that all are gone: {ended} ended within {time:.1} s, "
                )?;
                f.write_str("and new ones may be left")?;
                list(&self.0.left_alone, f, Survivor::fmt_name)
            }
            What::TooMany { found, most, .. } => {
                let count = Processes(found.len());
                write!(
                    f,
                    "nothing was sent: found {count}, at most {most} expected"
                )?;
                list(found, f, Survivor::fmt_name)
            }
            What::Refused(why) => write!(f, "refused: {why}"),
            What::Pattern(why) => write!(f, "bad pattern: {why}"),
            What::Proc(why, _) => write!(f, "cannot use /proc: {why}"),
            What::Io(doing, _) => write!(f, "cannot {doing}"),
            #[cfg(feature = "tokio")]
            What::Task(why) => write!(f, "the task failed: {why}"),
        }
    }
}

/// How many survived, of how many, after how long.
fn survived(
    survivors: &[Survivor],
    report: &Report,
    killed: Option<Duration>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let all = Processes(survivors.len() + report.len());
    write!(f, "{} of {all} not ", survivors.len())?;
    match killed {
        _ if survivors.iter().all(|s| s.reason().is_refusal()) => f.write_str("signalled"),
        Some(time) => write!(f, "gone {:.1} s after SIGKILL", time.as_secs_f64()),
        None => write!(f, "gone after {:.1} s", report.elapsed().as_secs_f64()),
    }
}

struct Processes(usize);

impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 process"),
            count => write!(f, "{count} processes"),
        }
    }
}

/// The first ten, and how many more.
fn list(
    survivors: &[Survivor],
    f: &mut fmt::Formatter<'_>,
    show: impl Fn(&Survivor, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    const SHOWN: usize = 10;
    for (i, survivor) in survivors.iter().take(SHOWN).enumerate() {
        f.write_str(if i == 0 { ": " } else { "; " })?;
        show(survivor, f)?;
    }
    match survivors.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return fmt::Debug::fmt(&self.0, f);
        }
        fmt::Display::fmt(self, f)?;
        match std::error::Error::source(self) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.what {
            What::Proc(_, Some(source)) | What::Io(_, source) => Some(source),
            _ => None,
        }
    }
}

/// `Io` keeps the kind of its source. `Refused` and `Pattern` become `InvalidInput`, `Proc` becomes
/// `Unsupported`. `Survivors` and `Unproven` become `TimedOut`, but `PermissionDenied` if
/// [`Reason::NotPermitted`] is the reason of every survivor. The rest becomes `Other`. The error
/// itself is inside ([`io::Error::get_ref`]).
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let is_forbidden = |survivor: &Survivor| survivor.reason() == Reason::NotPermitted;
        let kind = match &error.0.what {
            What::Io(_, source) => source.kind(),
            What::Refused(_) | What::Pattern(_) => io::ErrorKind::InvalidInput,
            What::Survivors { survivors, .. } if survivors.iter().all(is_forbidden) => {
                io::ErrorKind::PermissionDenied
            }
            What::Survivors { .. } | What::Unproven(_) => io::ErrorKind::TimedOut,
            What::Proc(..) => io::ErrorKind::Unsupported,
            What::TooMany { .. } => io::ErrorKind::Other,
            #[cfg(feature = "tokio")]
            What::Task(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
