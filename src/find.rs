//! Which processes: by pattern, by descent, by what they are.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::proc::{self, Dir, Link, Proc, Stat};
use super::process::{self, ProcessId};
use super::sys::{self, Pid};

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
/// `Pattern`: empty, too large, with a NUL, or refused by regcomp(3), whose words are in the text.
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
                    .map_err(|e| reading(candidate.pid, e))?,
            );
        }
        Ok(())
    })?;
    Ok(found)
}

/// The processes whose working directory is `dir` or below it, ascending; zombies have none.
///
/// A directory whose name merely starts alike is not below it. One that was deleted still counts,
/// under the path it had. `dir` is resolved first, as far as it exists. Processes whose working
/// directory the caller may not read (other users', proc_pid_cwd(5)) are left out.
///
/// # Errors
/// `Proc`: /proc cannot be used. `Io`: `dir` cannot be resolved, or reading /proc failed.
pub fn pids_with_cwd_under(dir: &Path) -> Result<Vec<u32>> {
    let dir = resolved(dir).map_err(|e| Error::io(format!("resolve {}", dir.display()), e))?;
    pids_where(|candidate| {
        Ok(candidate
            .dir
            .cwd_before_deletion(candidate.leader_exited())?
            .starts_with(&dir))
    })
}

/// The processes that were started with `key` set to `value`, ascending: it finds daemons that left
/// tree, group and session.
///
/// What counts is the environment given to execve(2) (proc_pid_environ(5)), not what the program
/// made of it. Processes whose environment the caller may not read (other users') are left out.
///
/// # Errors
/// `Refused`: `key` is empty or holds `=` or NUL, or `value` holds NUL. `Proc`: /proc cannot be used.
/// `Io`: reading it failed.
pub fn pids_with_env(key: &str, value: &str) -> Result<Vec<u32>> {
    if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
        return Err(Error::refused("no environment variable can be set so"));
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
    let kin = tree(process::named(root)?)?;
    Ok(kin.into_iter().map(|kin| kin.child.get()).collect())
}

/// As [`descendant_pids`], with identities.
///
/// # Errors
/// As [`descendant_pids`].
pub fn descendants(root: u32) -> Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    let mut buf = Vec::new();
    for Kin { parent, child } in tree(process::named(root)?)? {
        let mut identify = || -> io::Result<Option<ProcessId>> {
            let Some(dir) = Dir::open(child)? else {
                return Ok(None);
            };
            match dir.stat(&mut buf)? {
                // Else the number may have gone to a stranger since it was listed.
                Some(stat) if stat.parent == parent.get() => identity(child, &dir, &stat),
                _ => Ok(None),
            }
        };
        found.extend(identify().map_err(|e| reading(child, e))?);
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
        self.dir.link(Link::Exe, self.leader_exited())
    }

    /// Its working directory (proc_pid_cwd(5)), with ` (deleted)` behind it if it was.
    ///
    /// # Errors
    /// It is gone or a zombie, or may not be read.
    pub fn cwd(&self) -> io::Result<PathBuf> {
        self.dir.link(Link::Cwd, self.leader_exited())
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

    fn leader_exited(&self) -> bool {
        self.stat.leader_exited()
    }

    fn settled(&self, file: &str, stat: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.dir.settled(file, &mut bytes, stat)? {
            true => Ok(bytes),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn each_candidate(mut see: impl FnMut(&Candidate<'_>) -> Result<()>) -> Result<()> {
    let proc = Proc::open()?;
    let mut buf = Vec::new();
    for pid in visible(&proc)? {
        let Some(dir) = readable(pid, Dir::open(pid))? else {
            continue;
        };
        if let Some(stat) = readable(pid, dir.stat(&mut buf))? {
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
        if readable(candidate.pid, keep(candidate).map(Some))? == Some(true) {
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
    for pid in visible(&proc)? {
        if readable(pid, proc.stat(pid, &mut buf))?.is_some_and(|stat| keep(&stat)) {
            found.push(pid.get());
        }
    }
    Ok(found)
}

pub(super) fn visible(proc: &Proc) -> Result<Vec<Pid>> {
    proc.pids().map_err(|e| Error::io("list /proc", e))
}

/// A process that ended meanwhile, or that the caller may not read, is left out. Any other error, as
/// of a full descriptor table, must not make a list look complete.
pub(super) fn readable<T>(pid: Pid, read: io::Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(found),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied || proc::is_absent(&e) => Ok(None),
        Err(e) => Err(reading(pid, e)),
    }
}

fn reading(pid: Pid, error: io::Error) -> Error {
    Error::io(format!("read process {}", pid.get()), error)
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

/// Makes of /proc/PID/cmdline what pgrep shows; `stat` is looked at if nothing is left.
fn join_arguments(line: &mut Vec<u8>, stat: &[u8]) {
    let end = line
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    line.truncate(end);
    for byte in line.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    if line.is_empty() {
        let name = Stat::parse(stat).map_or(&b""[..], |stat| stat.name);
        line.push(b'[');
        line.extend_from_slice(name);
        line.push(b']');
    }
}

pub(super) enum Pattern {
    /// Without metacharacters.
    Literal(CString),
    Regex(sys::Regex),
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Result<Pattern> {
        if pattern.is_empty() {
            return Err(Error::pattern(
                "it is empty and would match everyone".into(),
            ));
        }
        let Ok(text) = CString::new(pattern) else {
            return Err(Error::pattern("it holds a NUL".into()));
        };
        if !pattern.contains(METACHARACTERS) {
            return Ok(Pattern::Literal(text));
        }
        if !is_bounded(pattern.as_bytes()) {
            return Err(Error::pattern(format!(
                "larger than {LARGEST} with its repeats written out, or nested deeper than {DEEPEST}"
            )));
        }
        let words = |words| Error::pattern(format!("{pattern}: {words}"));
        sys::Regex::new(&text).map(Pattern::Regex).map_err(words)
    }

    /// Every process that matches but the caller, ascending.
    pub(super) fn find(&self, proc: &mut Proc) -> Result<Vec<Pid>> {
        let (mut line, mut stat) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for pid in visible(proc)? {
            if pid.is_caller() {
                continue;
            }
            let matches = self.matches_process(pid, proc, &mut line, &mut stat);
            if readable(pid, matches.map(Some))? == Some(true) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    pub(super) fn matches_process(
        &self,
        pid: Pid,
        proc: &mut Proc,
        line: &mut Vec<u8>,
        stat: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if !proc.settled(pid, "cmdline", line, stat)? {
            return Ok(false);
        }
        join_arguments(line, stat);
        self.matches(line)
    }

    fn matches(&self, line: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Pattern::Literal(text) => Ok(sys::memmem(line, text)),
            Pattern::Regex(regex) => {
                line.push(0);
                let line = CStr::from_bytes_until_nul(line).map_err(io::Error::other)?;
                regex.is_match(line)
            }
        }
    }
}

const METACHARACTERS: [char; 14] = [
    '\\', '.', '[', ']', '(', ')', '{', '}', '*', '+', '?', '^', '$', '|',
];

/// What glibc's regcomp may be given. It recurses once for each open parenthesis and for each part in
/// a row that may match nothing, and copies what an interval or a `+` repeats: `(a?){1,30000}` and
/// `a{1,200}{1,200}` overflow a stack of 2 MiB, thirty `+` in a row exhaust the memory. Within these
/// bounds it takes less than half a MiB of stack.
const LARGEST: usize = 8192;
const DEEPEST: usize = 256;

/// What a part that may match nothing adds to the size of a pattern; a character adds 1.
const HOP: usize = 8;

/// Whether a pattern stays within [`LARGEST`] and [`DEEPEST`]. It need not be a correct one.
fn is_bounded(pattern: &[u8]) -> bool {
    // The size of each open group, and of the atom in the innermost that a repeat would copy.
    let mut open = vec![0_usize];
    let mut atom = 0_usize;
    let mut rest = pattern;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let mut copies = None;
        let mut grown = 1;
        match byte {
            b'(' => {
                open.push(0);
                grown = HOP;
            }
            b')' if open.len() > 1 => grown = open.pop().unwrap_or_default(),
            b'^' | b'$' => grown = HOP,
            b'*' | b'?' => copies = Some(1),
            // One that must be there, and a starred one.
            b'+' => copies = Some(2),
            b'{' => (copies, rest) = interval(rest),
            b'[' => rest = after_bracket(rest),
            b'\\' => {
                rest = rest.get(1..).unwrap_or_default();
                grown = HOP;
            }
            _ => {}
        }
        match copies {
            Some(copies) => {
                let repeated = atom.saturating_add(HOP).saturating_mul(copies);
                grown = repeated - atom;
                atom = repeated;
            }
            None => atom = grown,
        }
        if let Some(size) = open.last_mut() {
            *size = size.saturating_add(grown);
        }
        let total = open
            .iter()
            .fold(0_usize, |sum, &size| sum.saturating_add(size));
        if total > LARGEST || open.len() > DEEPEST {
            return false;
        }
    }
    true
}

/// How many copies an interval makes whose `{` has been read, and what follows it; `None` if it is
/// none.
fn interval(bounds: &[u8]) -> (Option<usize>, &[u8]) {
    let end = bounds
        .iter()
        .position(|&b| !b.is_ascii_digit() && b != b',')
        .filter(|&end| bounds[end] == b'}');
    let Some(end) = end else {
        return (None, bounds);
    };
    let (bounds, tail) = (&bounds[..end], &bounds[end + 1..]);
    // A number that is too large for usize is for regcomp to refuse.
    let copies = |bound: &[u8]| proc::number::<usize>(bound).unwrap_or(0);
    let copies = match bounds.iter().position(|&b| b == b',') {
        None => copies(bounds),
        Some(comma) if comma + 1 == bounds.len() => copies(&bounds[..comma]).saturating_add(1),
        Some(comma) => copies(&bounds[..comma]).max(copies(&bounds[comma + 1..])),
    };
    (Some(copies.max(1)), tail)
}

/// What follows a bracket expression whose `[` has been read.
fn after_bracket(expression: &[u8]) -> &[u8] {
    let mut rest = expression.strip_prefix(b"^").unwrap_or(expression);
    // A bracket that comes first is a member.
    rest = rest.strip_prefix(b"]").unwrap_or(rest);
    loop {
        rest = match rest {
            [] => return rest,
            [b']', tail @ ..] => return tail,
            [b'[', class @ (b':' | b'.' | b'='), tail @ ..] => {
                let end = tail.windows(2).position(|pair| pair == [*class, b']']);
                end.map_or(&[][..], |end| &tail[end + 2..])
            }
            [_, tail @ ..] => tail,
        };
    }
}

/// A child and who its parent is.
pub(super) struct Kin {
    pub(super) parent: Pid,
    pub(super) child: Pid,
}

fn tree(root: Pid) -> Result<Vec<Kin>> {
    let mut proc = Proc::open()?;
    match proc.process_of(root) {
        Ok(Some(process)) if process == root => {}
        Ok(_) => return Ok(Vec::new()),
        Err(e) => return Err(reading(root, e)),
    }
    let mut lists = ChildLists::default();
    let kin = match breadth_first(root, |parent| lists.children(parent, &mut proc)) {
        Err(NoList::Scan) => by_parents(root, &mut proc),
        Err(NoList::Failed(e)) => Err(e),
        Ok(kin) => Ok(kin),
    };
    kin.map_err(|e| reading(root, e))
}

/// Everyone below `root`, parents first, each once.
fn breadth_first<E>(
    root: Pid,
    mut children: impl FnMut(Pid) -> std::result::Result<Vec<Pid>, E>,
) -> std::result::Result<Vec<Kin>, E> {
    let mut seen = HashSet::from([root]);
    let mut found: Vec<Kin> = Vec::new();
    let mut parent = root;
    let mut walked = 0;
    loop {
        for child in children(parent)? {
            if seen.insert(child) {
                found.push(Kin { parent, child });
            }
        }
        let Some(next) = found.get(walked) else {
            return Ok(found);
        };
        parent = next.child;
        walked += 1;
    }
}

/// The kernel's lists of children, one for each thread (proc_tid_children(5)).
#[derive(Default)]
pub(super) struct ChildLists {
    read: usize,
    /// Beyond this many lists a scan of all processes is cheaper.
    worth_reading: Option<usize>,
}

#[derive(PartialEq, Eq)]
pub(super) struct Pass {
    threads: Vec<Pid>,
    /// In the order of their birth, thread by thread.
    pub(super) children: Vec<Pid>,
    /// False: a thread ended meanwhile.
    pub(super) is_complete: bool,
}

pub(super) enum NoList {
    /// The lists do not tell, or too slowly: ask every process for its parent.
    Scan,
    Failed(io::Error),
}

impl ChildLists {
    /// Children of any thread. When a child exits while its list is read, the kernel may omit another
    /// one: the one that exited was shown before and is absent from the next pass. So two equal
    /// passes in a row, threads and children, say that the first omitted none.
    ///
    /// A thread that ends hands its children to another one and is absent from the next pass too. Only
    /// a leader stays listed when it has ended, so it is read first: its children have then gone to a
    /// thread whose turn is still to come.
    pub(super) fn children(
        &mut self,
        parent: Pid,
        proc: &mut Proc,
    ) -> std::result::Result<Vec<Pid>, NoList> {
        const PASSES: u32 = 64;
        let mut last = None;
        for _ in 0..PASSES {
            let pass = self.pass(parent, proc)?;
            match (last, pass) {
                (Some(last), pass) if pass.is_complete && last == pass => return Ok(pass.children),
                (_, pass) => last = Some(pass),
            }
        }
        Err(NoList::Scan)
    }

    /// One pass over a process's lists of children.
    pub(super) fn pass(
        &mut self,
        parent: Pid,
        proc: &mut Proc,
    ) -> std::result::Result<Pass, NoList> {
        let threads = proc.threads(parent).map_err(NoList::Failed)?;
        let mut pass = Pass {
            threads: threads.unwrap_or_default(),
            children: Vec::new(),
            is_complete: true,
        };
        pass.threads
            .sort_unstable_by_key(|&tid| (tid != parent, tid));
        self.count(pass.threads.len(), proc)?;
        let mut buf = Vec::new();
        for &tid in &pass.threads {
            match proc.children(parent, tid, &mut pass.children, &mut buf) {
                Ok(()) => {}
                // The thread ended, and a sibling has its children now; or the kernel was built
                // without these lists.
                Err(e) if proc::is_absent(&e) => pass.is_complete = false,
                Err(e) => return Err(NoList::Failed(e)),
            }
        }
        Ok(pass)
    }

    fn count(&mut self, lists: usize, proc: &mut Proc) -> std::result::Result<(), NoList> {
        const FEW: usize = 128;
        self.read += lists;
        if self.read <= FEW {
            return Ok(());
        }
        let worth = match self.worth_reading {
            Some(worth) => worth,
            // A scan would not show the hidden ones, but their parents' lists name them.
            None if proc.is_partial().map_err(NoList::Failed)? => usize::MAX,
            // Each list is read twice or more, so half the number of processes is the break-even.
            None => proc.pids().map_err(NoList::Failed)?.len(),
        };
        self.worth_reading = Some(worth);
        match self.read <= worth {
            true => Ok(()),
            false => Err(NoList::Scan),
        }
    }
}

/// As by the lists of children, but by one scan of all processes' parents.
fn by_parents(root: Pid, proc: &mut Proc) -> io::Result<Vec<Kin>> {
    let mut children = all_children(proc)?;
    breadth_first(root, |parent| {
        Ok(children.remove(&parent).unwrap_or_default())
    })
}

/// Every process's children, ascending, by one scan of all processes' parents.
pub(super) fn all_children(proc: &mut Proc) -> io::Result<HashMap<Pid, Vec<Pid>>> {
    const ROUNDS: u32 = 8;
    let mut buf = Vec::new();
    let mut parent_of = HashMap::new();
    let mut ask = proc.pids()?;
    for _ in 0..ROUNDS {
        for pid in ask {
            match proc.stat(pid, &mut buf) {
                Ok(Some(stat)) => parent_of.insert(pid, Pid::new(stat.parent)),
                Ok(None) => parent_of.remove(&pid),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                Err(e) => return Err(e),
            };
        }
        // A parent that was not seen has ended, and somebody else adopted the child.
        let adopted = |(&pid, &parent): (&Pid, &Option<Pid>)| match parent {
            Some(parent) if !parent_of.contains_key(&parent) => Some(pid),
            _ => None,
        };
        ask = parent_of.iter().filter_map(adopted).collect();
        if ask.is_empty() {
            break;
        }
    }
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for (child, parent) in parent_of {
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(child);
        }
    }
    for siblings in children.values_mut() {
        siblings.sort_unstable();
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(line: &[u8], stat: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        join_arguments(&mut line, stat);
        line
    }

    #[test]
    fn arguments_are_joined_as_pgrep_does() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"a\0", b"a"),
            (b"a", b"a"),
            (b"a\0b\0", b"a b"),
            (b"a\0\0b\0", b"a  b"),
            (b"\0a\0", b" a"),
            (b"a\0\0\0\0", b"a"),
            (b"a \0", b"a "),
            (b"a\n\xff\0\t\0", b"a\n\xff \t"),
            (b" \0\0", b" "),
        ];
        for (line, expected) in cases {
            assert_eq!(joined(line, b"not looked at"), expected, "{line:?}");
        }
    }

    #[test]
    fn where_nothing_is_left_the_name_is_in_brackets() {
        let stat = |name: &[u8]| {
            let mut stat = b"7 (".to_vec();
            stat.extend_from_slice(name);
            stat.extend_from_slice(b") S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0");
            stat
        };
        for name in [&b"cat"[..], b"a) S (b", b"\n\xff", b"", b"  "] {
            for line in [&b""[..], b"\0", b"\0\0\0"] {
                assert_eq!(joined(line, &stat(name)), [b"[", name, b"]"].concat());
            }
        }
        assert_eq!(joined(b"", b"no stat"), b"[]");
    }

    #[test]
    fn a_bracket_expression_ends_where_it_ends() {
        for (expression, rest) in [
            ("a]x", "x"),
            ("]]x", "x"),
            ("^]]x", "x"),
            ("]x", ""),
            ("^]x", ""),
            ("[:alpha:]]x", "x"),
            ("^[:alpha:]b]x", "x"),
            ("[.].]]x", "x"),
            ("[=]=]]x", "x"),
            ("[:]x", ""),
            ("[a]x", "x"),
            ("(]x", "x"),
            ("\\]x", "x"),
            ("a-[.].]]x", "x"),
            ("^", ""),
            ("", ""),
        ] {
            let found = after_bracket(expression.as_bytes());
            assert_eq!(found, rest.as_bytes(), "[{expression}");
        }
    }

    #[test]
    fn only_what_regcomp_can_take_is_bounded() {
        for pattern in [
            "",
            "a",
            "^sleep 61[.]5$",
            r"^(/usr)?/bin/(a|b)+ .*[[:space:]]--x=[0-9]{1,3}(\.[0-9]{1,3}){3}$",
            "a{1,800}",
            "(a{1,9}){1,80}",
            "a{1}{1}{1}",
            "[(](((",
            ")))",
            "{{{",
            r"\(\(",
            "a{,}",
            "a{x}",
        ] {
            assert!(is_bounded(pattern.as_bytes()), "{pattern}");
        }
        assert!(is_bounded(&b"a|".repeat(4000)));
        assert!(is_bounded(&[b"(".repeat(255), b")".repeat(255)].concat()));
        // In brackets and behind a backslash they repeat nothing.
        assert!(is_bounded(&b"[+*?{()]".repeat(1000)));
        assert!(is_bounded(&b"\\+".repeat(1000)));
        for pattern in [
            "a{8193}",
            "(a?){1,30000}",
            "((a{1,100}){1,100}){1,100}",
            "a{1,200}{1,200}",
            "a{10,}{10,}{10,}{10,}",
            "a++++++++++++++++++++++++++++++",
            "a{18446744073709551615}",
            "(a{4294967296}){4294967296}",
        ] {
            assert!(!is_bounded(pattern.as_bytes()), "{pattern}");
        }
        for part in ["a?", "()", "(a)", "^", "$", "a*", r"\1", "a{1}", "[a]b?"] {
            assert!(!is_bounded(&part.repeat(4100).into_bytes()), "{part}");
        }
        assert!(!is_bounded(&b"a".repeat(8193)));
        assert!(!is_bounded(&b"(".repeat(256)));
        let nested = |n| [b"(".repeat(n), b"a".to_vec(), b")+".repeat(n)].concat();
        assert!(is_bounded(&nested(7)));
        assert!(!is_bounded(&nested(20)));
    }

    #[test]
    fn an_interval_makes_so_many_copies() {
        for (text, copies, rest) in [
            ("3}x", Some(3), "x"),
            ("2,5}x", Some(5), "x"),
            (",5}", Some(5), ""),
            ("5,}", Some(6), ""),
            ("0}", Some(1), ""),
            ("0,}", Some(1), ""),
            (",}", Some(1), ""),
            ("}", Some(1), ""),
            ("5,2}", Some(5), ""),
            ("3", None, "3"),
            ("(}", None, "(}"),
            ("1,(}", None, "1,(}"),
            ("", None, ""),
        ] {
            assert_eq!(
                interval(text.as_bytes()),
                (copies, rest.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pattern_without_metacharacters_matches_as_regcomp_has_it() {
        let mut random = fastrand::Rng::with_seed(14);
        let mut text = |longest| -> String {
            let mut any = || match random.u8(..4) {
                0 => char::from(random.u8(1..128)),
                _ => char::from(random.u8(b'a'..=b'c')),
            };
            (0..longest).map(|_| any()).collect()
        };
        let (mut literal, mut matched) = (0, 0);
        for _ in 0..20_000 {
            let (pattern, line) = (text(2), text(12));
            let Ok(found @ Pattern::Literal(_)) = Pattern::new(&pattern) else {
                continue;
            };
            literal += 1;
            let regex = sys::Regex::new(&CString::new(&*pattern).unwrap()).unwrap();
            let regex = Pattern::Regex(regex);
            let mut line = line.into_bytes();
            let by_regex = regex.matches(&mut line.clone()).unwrap();
            let by_memmem = found.matches(&mut line).unwrap();
            assert_eq!(by_memmem, by_regex, "{pattern:?} {line:?}");
            matched += u32::from(by_memmem);
        }
        assert!(literal > 10_000 && matched > 1000, "{literal} {matched}");
    }

    /// Each ASCII character that means something to regcomp in a pattern.
    #[test]
    fn every_metacharacter_is_known() {
        for byte in 1..127_u8 {
            let c = char::from(byte);
            let means_itself = |pattern: &str, line: &str, expected| {
                let pattern = CString::new(pattern).unwrap();
                let line = CString::new(line).unwrap();
                sys::Regex::new(&pattern)
                    .is_ok_and(|regex| regex.is_match(&line).unwrap() == expected)
            };
            let plain = means_itself(&format!("x{c}"), &format!("ax{c}b"), true)
                && means_itself(&format!("x{c}"), "x", false)
                && means_itself(&format!("x{c}y"), "x\x7fy", false);
            // Closing ones mean something only after their opening ones.
            if !matches!(c, ']' | '}' | ')') {
                assert_eq!(plain, !METACHARACTERS.contains(&c), "{c:?}");
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Barrier};

    use super::*;

    fn walk(root: u32, table: &[(u32, &[u32])]) -> Vec<(u32, u32)> {
        let pid = |number| Pid::new(number).unwrap();
        let children = |parent: Pid| {
            let listed = table.iter().filter(|(of, _)| *of == parent.get());
            let children = listed.flat_map(|(_, children)| *children);
            Ok::<_, Infallible>(children.map(|&child| pid(child)).collect())
        };
        let Ok(found) = breadth_first(pid(root), children);
        let pair = |kin: &Kin| (kin.parent.get(), kin.child.get());
        found.iter().map(pair).collect()
    }

    #[test]
    fn parents_come_before_children() {
        let table: &[(u32, &[u32])] =
            &[(1, &[5, 3]), (3, &[2, 4]), (5, &[9]), (2, &[7]), (8, &[6])];
        assert_eq!(
            walk(1, table),
            [(1, 5), (1, 3), (5, 9), (3, 2), (3, 4), (2, 7)]
        );
        assert_eq!(walk(8, table), [(8, 6)]);
        assert_eq!(walk(7, table), []);
        assert_eq!(walk(1, &[]), []);
    }

    /// As pids that are given away while they are read can make it look.
    #[test]
    fn a_table_with_cycles_and_duplicates_has_an_end() {
        assert_eq!(walk(1, &[(1, &[1])]), []);
        assert_eq!(walk(1, &[(1, &[2, 2]), (2, &[1, 2])]), [(1, 2)]);
        assert_eq!(
            walk(
                1,
                &[(1, &[2, 3]), (2, &[3, 4]), (4, &[2, 1, 5]), (5, &[5, 3])]
            ),
            [(1, 2), (1, 3), (2, 4), (4, 5)]
        );
        assert_eq!(walk(1, &[(1, &[2]), (1, &[2, 3])]), [(1, 2), (1, 3)]);
    }

    #[test]
    fn an_error_ends_the_walk() {
        let root = Pid::new(1).unwrap();
        let failed = breadth_first(root, |parent| match parent == root {
            true => Ok(vec![Pid::new(2).unwrap(), Pid::new(3).unwrap()]),
            false => Err(parent.get()),
        });
        assert_eq!(failed.err(), Some(2));
    }

    struct Tree(Child);

    impl Tree {
        /// Of three generations, which says when all are there and ends with us.
        fn start() -> Tree {
            // The input of what runs in the background is /dev/null unless it is said otherwise.
            let script = "exec 3<&0; cat <&3 & (cat <&3 & cat <&3 & echo; wait) & wait";
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = [0];
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
            Tree(child)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            // End-of-file ends every cat, and with them the shells.
            self.0.stdin = None;
            self.0.wait().unwrap();
        }
    }

    fn pairs(mut kin: Vec<Kin>) -> Vec<(u32, u32)> {
        kin.sort_unstable_by_key(|kin| kin.child);
        let pair = |kin: Kin| (kin.parent.get(), kin.child.get());
        kin.into_iter().map(pair).collect()
    }

    #[test]
    fn a_scan_of_all_parents_finds_whom_the_lists_find() {
        let tree = Tree::start();
        let root = Pid::new(tree.0.id()).unwrap();
        let mut proc = Proc::open().unwrap();
        let mut lists = ChildLists {
            proc: &mut proc,
            read: 0,
            worth_reading: Some(usize::MAX),
        };
        let Ok(by_lists) = breadth_first(root, |parent| lists.children(parent)) else {
            panic!("the lists do not tell");
        };
        let by_scan = by_parents(root, &mut proc).unwrap();
        let by_lists = pairs(by_lists);
        assert_eq!(by_lists.len(), 4, "{by_lists:?}");
        assert_eq!(pairs(by_scan), by_lists);
    }

    #[test]
    fn many_threads_are_not_read_one_by_one() {
        let mut proc = Proc::open().unwrap();
        let threads = proc.pids().unwrap().len() + 128;
        let barrier = Arc::new(Barrier::new(threads + 1));
        for _ in 0..threads {
            let barrier = Arc::clone(&barrier);
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || barrier.wait())
                .unwrap();
        }
        let mut lists = ChildLists {
            proc: &mut proc,
            read: 0,
            worth_reading: None,
        };
        let listed = lists.children(Pid::new(std::process::id()).unwrap());
        barrier.wait();
        assert!(matches!(listed, Err(NoList::Scan)));
    }
}
