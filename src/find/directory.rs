//! Which processes work in a directory.

use std::io;
use std::path::{Path, PathBuf};

use super::super::error::{Error, Result};
use super::candidate::pids_where;

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
    pids_where(|candidate| Ok(candidate.dir().cwd_before_deletion()?.starts_with(&dir)))
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
