//! What is in a directory, with all descendants. The search itself is in `matching.rs`.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::super::super::error::Result;
use super::super::super::find::directory::Directory;
use super::super::super::find::pattern::{Buffers, Match};
use super::super::super::proc::{self, Proc, ProcessDir};
use super::super::super::report::Report;
use super::super::super::sys::Pid;
use super::super::Kill;
use super::{Search, Seek};

impl Kill {
    /// Kills every process that is in a directory, as
    /// [`pids_in_directory`](super::super::super::pids_in_directory) finds them, with all their
    /// descendants, until there is none. Call it before you delete a worktree.
    ///
    /// A process is in the directory if it works there or below, runs a program from there, or
    /// names the directory or a path below it in an argument. The path is never a pattern:
    /// `/srv/tree-7` is not `/srv/tree-70`. The working directory is that of the first thread. What
    /// the caller may not read of other users' processes does not count.
    ///
    /// All that are found are stopped, with their trees as by [`Kill::tree`], before the first is
    /// killed. Then the search is repeated until it is empty. The caller is spared, and so are its
    /// ancestors unless [`Kill::even_ancestors`] allows them. So a shell that works in the
    /// directory and started the caller lives on. It is not in the report;
    /// [`pids_in_directory`](super::super::super::pids_in_directory) shows it.
    ///
    /// The coverage is that of [`Kill::matching`] and [`Kill::tree`] together, and `BestEffort` if
    /// something may not be read. For any user but root that is so on most machines, and calling
    /// again does not change it.
    ///
    /// If the directory may be gone by then, canonicalize the path first and use [`Kill::all_where`]
    /// with [`Candidate::is_in_directory`](super::super::super::Candidate::is_in_directory).
    ///
    /// # Errors
    /// `Refused`: `dir` is empty, holds a NUL, is or leads to `/`, or exists and is no directory.
    /// `Io` with a source of kind `NotFound`: `dir` does not exist and no process is in it, so the
    /// path may be mistyped. `Survivors`: some are not gone. `Unproven`: new ones keep coming.
    /// `Proc` or `Io`: /proc cannot be used or read, and nothing was sent.
    ///
    /// ```no_run
    /// # use std::path::Path;
    /// # use process_kill::Kill;
    /// let worktree = Path::new("/srv/worktrees/7");
    /// Kill::graceful().directory(worktree)?;
    /// std::fs::remove_dir_all(worktree)?; // reached only if all of them are gone
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn directory(&self, dir: &Path) -> Result<Report> {
        self.run(Search::of(InDirectory {
            dir: Directory::resolve(dir)?,
            buffers: Buffers::default(),
            stat: Vec::new(),
        }))
    }
}

struct InDirectory {
    dir: Directory,
    buffers: Buffers,
    stat: Vec<u8>,
}

impl Seek for InDirectory {
    const WITH_DESCENDANTS: bool = true;

    fn matches(&mut self, pid: Pid, proc: &Proc) -> io::Result<Match> {
        match ProcessDir::open(proc, pid, &mut self.stat)? {
            Some((dir, _)) => self.dir.holds(&dir, &mut self.buffers),
            None => Ok(Match::No),
        }
    }

    fn has_passed_over(&self) -> bool {
        self.dir.has_passed_over()
    }

    fn none_found(&mut self, spared: &HashSet<Pid>, proc: &Proc) -> Result<()> {
        let mut is_real = self.dir.exists();
        // A path that they only name may be mistyped.
        for &pid in spared {
            let works_there = self.dir.holds_place_of(&proc.process(pid)).map(Some);
            is_real |= proc::readable(pid, works_there)? == Some(Match::Yes);
        }
        match is_real {
            true => Ok(()),
            false => Err(self.dir.missing()),
        }
    }
}
