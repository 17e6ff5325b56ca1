//! Which processes work in a directory, run a program of it, or name it.
//!
//! A process is in a directory for one of three reasons. Each is looked at by itself:
//!
//! | what | counts if it is | if it cannot be read |
//! |---|---|---|
//! | its working directory | the directory or below it | does not count |
//! | its program | below the directory | does not count |
//! | its arguments | name the directory or a path below it, see [`names`] | do not count |
//!
//! Paths are compared as bytes. No character of a path is special.

use std::cell::Cell;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::error::{Error, Result};
use super::super::proc::dir::Link;
use super::super::proc::{self, ProcessDir, Reading, Text, is_absent};
use super::super::sys;
use super::candidate::{Candidate, each_candidate, pids_where};
use super::directory_names::names;
use super::pattern::{Buffers, Match};

/// The processes that are in a directory, ascending, the caller included. Ask before you delete a
/// worktree.
///
/// A process is in the directory if one of these is true:
/// - Its working directory is `dir` or below it. If that was deleted, the path that it had counts.
/// - Its program is a file below `dir`, deleted or not.
/// - One of its arguments names `dir` or a path below it.
///
/// `dir` is resolved first, as far as it exists. An argument names `dir` if it holds the resolved
/// path, or the given path made absolute, as these bytes. The byte before them must not be `/` or a
/// character of a name. The byte after them must be `/`, or no character of a name. Letters,
/// digits, `_ - . + @ ~ %` and all bytes above 0x7f are characters of a name.
///
/// | argument | names `/srv/tree-7` |
/// |---|---|
/// | `/srv/tree-7/src`, `--tree=/srv/tree-7`, `cd /srv/tree-7 && make` | yes |
/// | `PATH=/srv/tree-7/bin:/bin` | yes |
/// | `/srv/tree-70`, `/mnt/srv/tree-7`, `-I/srv/tree-7` | no |
/// | `//srv/tree-7`, `file:///srv/tree-7` | no |
///
/// The path is never a pattern. Zombies are in no directory. What the caller may not read of other
/// users' processes does not count: mostly the working directory and the program, but not the
/// arguments.
///
/// A process in another mount namespace shows paths of its own. Its working directory and program
/// count only if the same path leads the caller to the same file. If such a file is deleted, it
/// does not count.
///
/// # Errors
/// `Refused`: `dir` is empty, holds a NUL, is or leads to `/`, or exists and is no directory. `Io`:
/// `dir` cannot be resolved, or reading /proc failed. `Io` with a source of kind `NotFound`: `dir`
/// does not exist and no process is in it, so the path may be mistyped; a caller that only names it
/// in its own arguments does not count. `Proc`: /proc cannot be used.
///
/// ```
/// let tree = std::env::current_dir()?;
/// let mut child = std::process::Command::new("sleep").arg("60").current_dir(&tree).spawn()?;
/// assert!(process_kill::pids_in_directory(&tree)?.contains(&child.id()));
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_in_directory(dir: &Path) -> Result<Vec<u32>> {
    let dir = Directory::resolve(dir)?;
    let mut buffers = Buffers::default();
    let mut found = Vec::new();
    let mut is_real = dir.exists;
    each_candidate(|candidate| {
        let process = candidate.dir();
        let reading = |e| proc::reading(process.pid(), e);
        if dir.holds(process, &mut buffers).map_err(reading)? == Match::Yes {
            found.push(candidate.pid());
            // A program that was given a mistyped path names it too.
            is_real = is_real
                || !candidate.is_caller()
                || dir.holds_place_of(process).map_err(reading)? == Match::Yes;
        }
        Ok(())
    })?;
    match is_real {
        true => Ok(found),
        false => Err(dir.missing()),
    }
}

/// The processes whose working directory is `dir` or below it, ascending, the caller included.
/// Zombies have none.
///
/// A directory whose name merely starts the same is not below it. If the working directory was
/// deleted, the path that it had counts. `dir` is resolved first, as far as it exists. Processes
/// whose working directory the caller may not read (other users', proc_pid_cwd(5)) are left out.
/// [`pids_in_directory`] finds more: by program and by arguments.
///
/// # Errors
/// `Proc`: /proc cannot be used. `Io`: `dir` cannot be resolved, or reading /proc failed.
///
/// ```
/// use std::path::Path;
///
/// let mut child = std::process::Command::new("sleep").arg("60").current_dir("/usr/bin").spawn()?;
/// assert!(process_kill::pids_with_cwd_under(Path::new("/usr"))?.contains(&child.id()));
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_with_cwd_under(dir: &Path) -> Result<Vec<u32>> {
    let dir = resolved(dir).map_err(|e| Error::io(format!("resolve {dir:?}"), e))?;
    pids_where(|candidate| {
        let place = candidate.dir().place(Link::Cwd)?;
        Ok(place.path.starts_with(&dir))
    })
}

impl Candidate<'_> {
    /// Whether it works in a directory, runs a program of it, or names it in an argument, as
    /// [`pids_in_directory`] tests it.
    ///
    /// `dir` must be an absolute path without links, as [`std::fs::canonicalize`] returns it. It is
    /// not resolved again, so it may be missing. A relative path and `/` are "no". What cannot be
    /// read is "no".
    ///
    /// ```
    /// let tree = std::env::current_dir()?.canonicalize()?;
    /// let idle = process_kill::processes_where(|p| p.is_in_directory(&tree) && p.state() == 'S')?;
    /// # drop(idle);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_in_directory(&self, dir: &Path) -> bool {
        let Some(dir) = Directory::as_resolved(dir) else {
            return false;
        };
        let held = dir.holds(self.dir(), &mut Buffers::default());
        if dir.has_passed_over() {
            self.note_refusal();
        }
        match held {
            Ok(Match::Yes) => true,
            Ok(Match::Unsure) => {
                self.note_unsettled();
                false
            }
            Ok(Match::No) | Err(_) => false,
        }
    }
}

/// The directory that is asked for. It is never `/`.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Absolute, without links as far as it exists.
    resolved: PathBuf,
    /// The path as it was given, made absolute.
    given: PathBuf,
    exists: bool,
    /// Something could not be read, for want of the rights.
    passed_over: Cell<bool>,
}

impl Directory {
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// Whether something of a process could not be read, for want of the rights.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.passed_over.get()
    }

    /// # Errors
    /// `Refused` and `Io`: as [`pids_in_directory`].
    pub(crate) fn resolve(dir: &Path) -> Result<Directory> {
        let bytes = dir.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(Error::refused(format!("no directory has the path {dir:?}")));
        }
        let resolving = |e| Error::io(format!("resolve {dir:?}"), e);
        // A `/` at the end would turn the error into "not a directory" if the path leads to a file.
        let given = plain(&std::path::absolute(dir).map_err(resolving)?);
        let resolved = resolved(&given).map_err(resolving)?;
        let exists = match sys::retry(|| std::fs::metadata(&resolved)) {
            Ok(file) if file.is_dir() => true,
            Ok(_) => return Err(Error::refused(format!("{dir:?} is no directory"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(resolving(e)),
        };
        if is_root(&resolved) || is_root(&given) {
            return Err(Error::refused(format!(
                "{dir:?} is /, and all processes are in it: a directory below it can be asked for"
            )));
        }
        Ok(Directory {
            resolved,
            given,
            exists,
            passed_over: Cell::new(false),
        })
    }

    /// `None`: the path is relative, or `/`.
    fn as_resolved(dir: &Path) -> Option<Directory> {
        let dir = plain(dir);
        (dir.is_absolute() && !is_root(&dir)).then(|| Directory {
            given: dir.clone(),
            exists: true,
            passed_over: Cell::new(false),
            resolved: dir,
        })
    }

    /// The error if the directory does not exist and no process was found in it.
    pub(crate) fn missing(&self) -> Error {
        let doing = format!(
            "find a process in {:?}, which does not exist",
            self.resolved
        );
        Error::io(doing, io::ErrorKind::NotFound.into())
    }

    /// Whether a process is in the directory. What may not be read does not count, and neither does
    /// what an ended process has lost.
    pub(crate) fn holds(
        &self,
        process: &ProcessDir<'_>,
        buffers: &mut Buffers,
    ) -> io::Result<Match> {
        let place = self.holds_place_of(process)?;
        if place == Match::Yes {
            return Ok(Match::Yes);
        }
        match self.unless_unreadable(self.is_named_by(process, buffers))? {
            Match::No => Ok(place),
            named => Ok(named),
        }
    }

    /// Whether its working directory or its program is in the directory.
    pub(crate) fn holds_place_of(&self, process: &ProcessDir<'_>) -> io::Result<Match> {
        let mut found = Match::No;
        for link in [Link::Cwd, Link::Exe] {
            match self.unless_unreadable(self.holds_target(process, link))? {
                Match::Yes => return Ok(Match::Yes),
                Match::Unsure => found = Match::Unsure,
                Match::No => {}
            }
        }
        Ok(found)
    }

    /// "No" of what may not be read, or is there no more.
    fn unless_unreadable(&self, read: io::Result<Match>) -> io::Result<Match> {
        match read {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.passed_over.set(true);
                Ok(Match::No)
            }
            Err(e) if is_absent(&e) => Ok(Match::No),
            read => read,
        }
    }

    fn holds_target(&self, process: &ProcessDir<'_>, link: Link) -> io::Result<Match> {
        // The path and the file are read one after the other. In between the process may change its
        // directory, and a directory may be renamed. So a "no" is repeated until both looks saw the
        // same place.
        const LOOKS: u32 = 16;
        let mut place = process.place(link)?;
        for _ in 0..LOOKS {
            let is_below = place.path.starts_with(&self.resolved)
                && (link == Link::Cwd || place.path != self.resolved);
            if !is_below {
                return Ok(Match::No);
            }
            if process.is_in_view(link, &place)? {
                return Ok(Match::Yes);
            }
            let again = process.place(link)?;
            if again == place {
                return Ok(Match::No);
            }
            place = again;
        }
        Ok(Match::Unsure)
    }

    fn is_named_by(
        &self,
        process: &ProcessDir<'_>,
        Buffers { line, stat }: &mut Buffers,
    ) -> io::Result<Match> {
        Ok(match process.text(Text::Arguments, line, stat)? {
            Reading::Absent => Match::No,
            Reading::Unsettled => Match::Unsure,
            Reading::Settled => {
                let mut paths = [&self.resolved, &self.given].into_iter();
                match paths.any(|path| names(line, path.as_os_str().as_bytes())) {
                    true => Match::Yes,
                    false => Match::No,
                }
            }
        })
    }
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

/// The path without `.`, with a single `/` between two names and none at the end.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `dir` as /proc/PID/cwd would show it, whether or not it still exists.
fn resolved(dir: &Path) -> io::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    let mut existing = dir.as_path();
    let mut missing = Vec::new();
    loop {
        match (
            sys::retry(|| existing.canonicalize()),
            existing.parent(),
            existing.file_name(),
        ) {
            (Ok(mut path), ..) => {
                path.extend(missing.iter().rev());
                return Ok(path);
            }
            (Err(e), Some(parent), Some(name)) if e.kind() == io::ErrorKind::NotFound => {
                missing.push(name);
                existing = parent;
            }
            (Err(e), ..) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_missing_directory_is_resolved_as_far_as_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let above = real.parent().unwrap().join("no such directory");
        for (asked, expected) in [
            (".", real.clone()),
            ("link", real.clone()),
            ("link/link/", real.clone()),
            ("none", real.join("none")),
            ("link/none/at all", real.join("none/at all")),
            ("link/../no such directory", above),
        ] {
            assert_eq!(resolved(&real.join(asked)).unwrap(), expected, "{asked}");
        }
        assert!(resolved(&real.join("none/../link")).is_err());
        assert!(resolved(Path::new("")).is_err());
    }

    #[test]
    fn a_directory_is_asked_for_by_two_paths() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        for (asked, resolved, given, exists) in [
            ("link", "", "link", true),
            ("link//./", "", "link", true),
            ("link/none/", "none", "link/none", false),
        ] {
            let found = Directory::resolve(&real.join(asked)).unwrap();
            assert_eq!(found.resolved, plain(&real.join(resolved)), "{asked}");
            assert_eq!(found.given, real.join(given), "{asked}");
            assert_eq!(found.exists, exists, "{asked}");
        }
    }

    #[test]
    fn the_root_is_no_directory_to_ask_for() {
        for root in [
            "/",
            "//",
            "///",
            "/.",
            "/..",
            "/proc/..",
            "/proc/../.",
            "/proc/self/root",
        ] {
            let error = Directory::resolve(Path::new(root)).unwrap_err();
            assert_eq!(
                error.kind(),
                super::super::super::error::ErrorKind::Refused,
                "{root}"
            );
        }
        for nothing in ["/", "//", "/.", "", ".", "srv", "./srv"] {
            assert!(
                Directory::as_resolved(Path::new(nothing)).is_none(),
                "{nothing}"
            );
        }
        let bytes = Path::new(OsStr::from_bytes(b"//srv/./\xff//"));
        let resolved = Directory::as_resolved(bytes).unwrap().resolved;
        assert_eq!(resolved.as_os_str().as_bytes(), b"/srv/\xff");
    }
}
