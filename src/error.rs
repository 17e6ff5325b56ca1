//! The one error type: opaque, with a kind to match on.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::report::{Report, Survivor};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not every target is gone: see [`Error::survivors`] and [`Error::report`].
    Survivors,
    /// Every target that was found is gone, but more may be left: the set kept growing until the
    /// deadline. See [`Error::report`].
    Unproven,
    /// An argument that must not be acted on, or that means nothing. Nothing was sent.
    Refused,
    /// The pattern is empty, too large, or regcomp(3) refused it.
    Pattern,
    /// /proc is missing, is no procfs, or belongs to another PID namespace.
    Proc,
    /// The system refused something; the reason is in `source()`.
    Io,
    /// The work that was handed to an async runtime panicked (feature `tokio`).
    Task,
}

/// Why a call did not end in "verified gone".
///
/// `Display` names every survivor with pid, name and reason.
pub struct Error(Box<Inner>);

#[derive(Debug)]
enum Inner {
    Survivors {
        survivors: Vec<Survivor>,
        report: Report,
        /// False: more may be left than was found.
        is_complete: bool,
    },
    Unproven(Report),
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
        match *self.0 {
            Inner::Survivors { .. } => ErrorKind::Survivors,
            Inner::Unproven(_) => ErrorKind::Unproven,
            Inner::Refused(_) => ErrorKind::Refused,
            Inner::Pattern(_) => ErrorKind::Pattern,
            Inner::Proc(..) => ErrorKind::Proc,
            Inner::Io(..) => ErrorKind::Io,
            #[cfg(feature = "tokio")]
            Inner::Task(_) => ErrorKind::Task,
        }
    }

    /// Who is not gone and why, in the order first named or found. Empty for all kinds but
    /// [`ErrorKind::Survivors`].
    #[must_use]
    pub fn survivors(&self) -> &[Survivor] {
        match &*self.0 {
            Inner::Survivors { survivors, .. } => survivors,
            _ => &[],
        }
    }

    /// What did end. `Some` for [`ErrorKind::Survivors`] and [`ErrorKind::Unproven`].
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match &*self.0 {
            Inner::Survivors { report, .. } | Inner::Unproven(report) => Some(report),
            _ => None,
        }
    }

    pub(crate) fn survived(survivors: Vec<Survivor>, report: Report, is_complete: bool) -> Error {
        Error(Box::new(Inner::Survivors {
            survivors,
            report,
            is_complete,
        }))
    }

    pub(crate) fn unproven(report: Report) -> Error {
        Error(Box::new(Inner::Unproven(report)))
    }

    pub(crate) fn refused(why: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner::Refused(why.into())))
    }

    pub(crate) fn pattern(why: String) -> Error {
        Error(Box::new(Inner::Pattern(why)))
    }

    pub(crate) fn proc(why: &'static str, source: Option<io::Error>) -> Error {
        Error(Box::new(Inner::Proc(why, source)))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn task(why: String) -> Error {
        Error(Box::new(Inner::Task(why)))
    }

    pub(crate) fn io(doing: impl Into<Cow<'static, str>>, source: io::Error) -> Error {
        Error(Box::new(Inner::Io(doing.into(), source)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Survivors {
                survivors,
                report,
                is_complete,
            } => {
                let all = survivors.len() + report.len();
                write!(f, "{} of {all} not gone", survivors.len())?;
                for (i, survivor) in survivors.iter().enumerate() {
                    write!(f, "{} {survivor}", if i == 0 { ":" } else { ";" })?;
                }
                match is_complete {
                    true => Ok(()),
                    false => f.write_str("; more may be left than were found"),
                }
            }
            Inner::Unproven(report) => write!(
                f,
                "all {} that were found are gone, but more may be left: there were new ones until the \
                 time was up",
                report.len()
            ),
            Inner::Refused(why) => write!(f, "refused: {why}"),
            Inner::Pattern(why) => write!(f, "bad pattern: {why}"),
            Inner::Proc(why, _) => write!(f, "cannot use /proc: {why}"),
            Inner::Io(doing, _) => write!(f, "cannot {doing}"),
            #[cfg(feature = "tokio")]
            Inner::Task(why) => write!(f, "the task failed: {why}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Inner::Proc(_, Some(source)) | Inner::Io(_, source) => Some(source),
            _ => None,
        }
    }
}
