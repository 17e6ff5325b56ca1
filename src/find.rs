//! Which processes: by pattern, by descent, by what they are.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::descent::{self, Kin};
use super::error::{Error, Result};
use super::pattern::{Pattern, join_arguments};
use super::proc::{self, Dir, Link, Proc, Stat};
use super::process::{self, ProcessId};
use super::sys::Pid;

/// The processes whose command line matches a POSIX extended regular expression (regex(7)): what
/// `pgrep -f` answers, without running it.
///
/// The command line is the arguments joined by one space, without the empty ones at its end. Where
/// nothing is left, as for kernel threads, zombies and programs that cleared it, it is the process
/// name in brackets. The caller is left out; ascending. A pattern that starts with `-` is a pattern.
///
/// Unlike `pgrep -f`, it takes the bytes as they are (pgrep shows newlines and bytes that are not
/// UTF-8 as something else, and marks zombies), knows no limit of length, takes the command line of a
/// live thread where the leader has exited, and refuses the empty pattern. As with pgrep, what the
/// caller may not read is left out, and the calling program's locale (setlocale(3)) decides what a
/// character is.
///
/// The pattern is the caller's own: nested repeats, anchors in a row and back-references can take
/// regcomp(3) and regexec(3) very long.
/// Reading the command line of a process that is stuck in the kernel while it holds its memory map
/// blocks the reader, as it blocks ps(1).
///
/// # Errors
/// `Pattern`: empty, with a NUL, refused by regcomp(3), whose words are in the text, or one on which
/// regcomp could overflow the stack or exhaust the memory: larger than 8192 characters with its
/// intervals written out, where an anchor counts for 64 and `\b` for 256, or with parentheses 256 deep.
/// A pattern without metacharacters may have any length.
/// `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("61.5").spawn()?;
/// assert_eq!(process_kill::pids_matching("^sleep 61[.]5$")?, [child.id()]);
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_matching(pattern: &str) -> Result<Vec<u32>> {
    let found = Pattern::new(pattern)?.find(&mut Proc::open()?)?;
    Ok(found.into_iter().map(Pid::get).collect())
}

/// The processes for which `keep` says true, ascending. Every process that the caller can see is
/// shown, the caller itself and zombies included, whatever bytes its names hold.
///
/// What `keep` is shown is one process's even if its pid is used again meanwhile, and the identity is
/// that process's.
///
/// # Errors
/// `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// let shells = process_kill::processes_where(|p| p.name() == "sh" && p.uid().is_ok_and(|u| u != 0))?;
/// # drop(shells);
/// # Ok::<(), process_kill::Error>(())
/// ```
pub fn processes_where(mut keep: impl FnMut(&Candidate<'_>) -> bool) -> Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    each_candidate(|candidate| {
        if keep(candidate) {
            found.extend(
                identity(candidate.pid, candidate.dir, &candidate.stat)
                    .map_err(|e| proc::reading(candidate.pid, e))?,
            );
        }
        Ok(())
    })?;
    Ok(found)
}

/// The processes whose working directory is `dir` or below it, ascending, the caller included; zombies
/// have none.
///
/// A directory whose name merely starts alike is not below it. One that was deleted still counts,
/// under the path it had. `dir` is resolved first, as far as it exists. Processes whose working
/// directory the caller may not read (other users', proc_pid_cwd(5)) are left out.
///
/// # Errors
/// `Proc`: /proc cannot be used. `Io`: `dir` cannot be resolved, or reading /proc failed.
pub fn pids_with_cwd_under(dir: &Path) -> Result<Vec<u32>> {
    let dir = resolved(dir).map_err(|e| Error::io(format!("resolve {dir:?}"), e))?;
    pids_where(|candidate| Ok(candidate.dir.cwd_before_deletion()?.starts_with(&dir)))
}

/// The processes that were started with `key` set to `value`, ascending, the caller included: it finds
/// daemons that left tree, group and session.
///
/// What counts is the environment given to execve(2) (proc_pid_environ(5)), not what the program
/// made of it. Processes whose environment the caller may not read (other users') are left out.
///
/// # Errors
/// `Refused`: `key` is empty or holds `=` or NUL, or `value` holds NUL. `Proc`: /proc cannot be used.
/// `Io`: reading it failed.
pub fn pids_with_env(key: &str, value: &str) -> Result<Vec<u32>> {
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(Error::refused(format!(
            "no environment has {key:?} set to {value:?}"
        )));
    }
    pids_where(|candidate| Ok(candidate.env(key)?.is_some_and(|set| set == value)))
}

/// The members of a process group, ascending; zombies included.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed.
pub fn pids_in_group(pgid: u32) -> Result<Vec<u32>> {
    let pgid = process::named(pgid)?.get();
    pids_by_stat(|stat| stat.group == pgid)
}

/// The members of a session, ascending; zombies included.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed.
pub fn pids_in_session(sid: u32) -> Result<Vec<u32>> {
    let sid = process::named(sid)?.get();
    pids_by_stat(|stat| stat.session == sid)
}

/// All descendants of a process, parents before children, `root` itself left out; zombies included.
/// None if there is no such process.
///
/// Complete for every process that lives through the call with its line of parents unbroken, however
/// many others come and go meanwhile. One that loses a parent during the call may be missed, even if
/// a subreaper among its ancestors adopts it. The cost follows the size of the tree, not the number
/// of processes.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed, or a
/// process of the tree exists but is hidden, as under `hidepid`.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// assert!(process_kill::descendant_pids(std::process::id())?.contains(&child.id()));
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn descendant_pids(root: u32) -> Result<Vec<u32>> {
    let kin = descent::tree(process::named(root)?)?;
    Ok(kin.into_iter().map(|kin| kin.child.get()).collect())
}

/// As [`descendant_pids`], with identities.
///
/// # Errors
/// As [`descendant_pids`].
pub fn descendants(root: u32) -> Result<Vec<ProcessId>> {
    let root = process::named(root)?;
    let mut found = Vec::new();
    let mut buf = Vec::new();
    // Whose children are no strangers: the number of one that was listed may have gone to another
    // process before its list was read.
    let mut kin = HashSet::from([root]);
    for Kin { parent, child } in descent::tree(root)? {
        if !kin.contains(&parent) {
            continue;
        }
        let mut identify = || -> io::Result<Option<ProcessId>> {
            match Dir::open(child, &mut buf)? {
                // Else the number may have gone to a stranger since it was listed.
                Some((dir, stat)) if stat.parent == parent.get() => identity(child, &dir, &stat),
                _ => Ok(None),
            }
        };
        if let Some(id) = identify().map_err(|e| proc::reading(child, e))? {
            kin.insert(child);
            found.push(id);
        }
    }
    Ok(found)
}

/// A process as [`processes_where`] shows it: the numbers as they were when it was listed, the rest
/// read when asked for.
///
/// What is read is this process's or an error, never a successor's. Names are bytes as the kernel
/// gives them.
pub struct Candidate<'a> {
    pid: Pid,
    stat: Stat<'a>,
    dir: &'a Dir,
}

impl Candidate<'_> {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// Its parent's pid (proc_pid_stat(5) field 4); 0 for none in the caller's PID namespace.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.stat.parent
    }

    /// Its process group (proc_pid_stat(5) field 5); 0 for one outside the caller's PID namespace.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.stat.group
    }

    /// Its session (proc_pid_stat(5) field 6); 0 for one outside the caller's PID namespace.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.stat.session
    }

    /// Its state (proc_pid_stat(5) field 3): the leader's, so `Z` with several
    /// [`threads`](Candidate::threads) is a process that runs on without its leader.
    #[must_use]
    pub fn state(&self) -> char {
        self.stat.state
    }

    /// How many threads it has (proc_pid_stat(5) field 20).
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.stat.threads
    }

    /// Clock ticks after boot (proc_pid_stat(5) field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.stat.start_time
    }

    /// Its name (proc_pid_stat(5) field 2): 15 bytes at most, unless it is a kernel thread.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.stat.name)
    }

    /// Its arguments, empty ones included (proc_pid_cmdline(5)); none for a zombie or a kernel
    /// thread.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn args(&self) -> io::Result<Vec<OsString>> {
        let bytes = self.settled("cmdline", &mut Vec::new())?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        let args = bytes.split(|&b| b == 0);
        Ok(args.map(|arg| OsString::from_vec(arg.to_vec())).collect())
    }

    /// What [`pids_matching`] matches: the arguments joined by one space, or the name in brackets.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn command_line(&self) -> io::Result<Vec<u8>> {
        let mut stat = Vec::new();
        let mut line = self.settled("cmdline", &mut stat)?;
        join_arguments(&mut line, &stat);
        Ok(line)
    }

    /// The program it runs (proc_pid_exe(5)), with ` (deleted)` behind it if its file was.
    ///
    /// # Errors
    /// It is gone, a zombie or a kernel thread, or may not be read.
    pub fn exe(&self) -> io::Result<PathBuf> {
        self.dir.link(Link::Exe)
    }

    /// Its working directory (proc_pid_cwd(5)), with ` (deleted)` behind it if it was.
    ///
    /// # Errors
    /// It is gone or a zombie, or may not be read.
    pub fn cwd(&self) -> io::Result<PathBuf> {
        self.dir.link(Link::Cwd)
    }

    /// A variable of the environment it was started with (proc_pid_environ(5)); the first, as
    /// getenv(3) has it.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn env(&self, key: &str) -> io::Result<Option<OsString>> {
        let bytes = self.settled("environ", &mut Vec::new())?;
        let value = bytes.split(|&b| b == 0).find_map(|entry| {
            let value = entry.strip_prefix(key.as_bytes())?;
            value.strip_prefix(b"=")
        });
        Ok(value.map(|value| OsString::from_vec(value.to_vec())))
    }

    /// The effective user id (credentials(7)).
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn uid(&self) -> io::Result<u32> {
        self.dir.uid()
    }

    fn settled(&self, file: &str, stat: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.dir.settled(file, &mut bytes, stat)? {
            true => Ok(bytes),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("pid", &self.pid())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

fn each_candidate(mut see: impl FnMut(&Candidate<'_>) -> Result<()>) -> Result<()> {
    let proc = Proc::open()?;
    let mut buf = Vec::new();
    for pid in proc::visible(&proc)? {
        if let Some((dir, stat)) = proc::readable(pid, Dir::open(pid, &mut buf))? {
            see(&Candidate {
                pid,
                stat,
                dir: &dir,
            })?;
        }
    }
    Ok(())
}

fn pids_where(keep: impl Fn(&Candidate<'_>) -> io::Result<bool>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    each_candidate(|candidate| {
        if proc::readable(candidate.pid, keep(candidate).map(Some))? == Some(true) {
            found.push(candidate.pid());
        }
        Ok(())
    })?;
    Ok(found)
}

fn pids_by_stat(keep: impl Fn(&Stat<'_>) -> bool) -> Result<Vec<u32>> {
    let mut proc = Proc::open()?;
    let mut buf = Vec::new();
    let mut found = Vec::new();
    for pid in proc::visible(&proc)? {
        if proc::readable(pid, proc.stat(pid, &mut buf))?.is_some_and(|stat| keep(&stat)) {
            found.push(pid.get());
        }
    }
    Ok(found)
}

/// The identity of the process behind `dir`; `None` if it is gone.
fn identity(pid: Pid, dir: &Dir, stat: &Stat<'_>) -> io::Result<Option<ProcessId>> {
    let inode = process::pidfs_inode(pid)?;
    // Still there after the pidfd was opened, so it had the number then.
    let still_there = dir.stat(&mut Vec::new())?.is_some();
    Ok(still_there.then(|| ProcessId::new(pid, stat, inode)))
}

/// `dir` as /proc/PID/cwd would show it, whether or not it still exists.
fn resolved(dir: &Path) -> io::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    let mut existing = dir.as_path();
    let mut missing = Vec::new();
    loop {
        match (
            existing.canonicalize(),
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
}
