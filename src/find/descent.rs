//! Which processes descend from which: by the kernel's lists of children or, if those do not tell,
//! by one scan of all parents.
//!
//! A list can omit a child while another child exits. So a list counts only if two passes in a row
//! agree, or if its process is stopped and the list is empty; see [`ChildLists`].

use std::collections::{HashMap, HashSet};
use std::io;

use super::super::error::Result;
use super::super::proc::{self, Proc, ProcessDir, children_in};
use super::super::process::{ProcessId, pid_of};
use super::super::sys::Pid;

/// All descendants of a process, parents before children, also zombies. `root` itself is left out.
/// If there is no such process, the list is empty.
///
/// The list has every process that lives through the call with all its parents up to `root`, even
/// if others come and go meanwhile. A process that loses a parent during the call may be missed,
/// even if a subreaper among its ancestors adopts it. The cost follows the size of the tree, not
/// the number of processes.
///
/// # Errors
/// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: reading it failed, or
/// /proc hides a process of the tree (`hidepid`).
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// assert!(process_kill::descendant_pids(std::process::id())?.contains(&child.id()));
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn descendant_pids(root: u32) -> Result<Vec<u32>> {
    let kin = tree(pid_of(root)?, &Proc::open()?)?;
    Ok(kin.into_iter().map(|kin| kin.child.get()).collect())
}

/// As [`descendant_pids`], with identities.
///
/// # Errors
/// As [`descendant_pids`].
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// let below = process_kill::descendants(std::process::id())?;
/// assert!(below.iter().any(|id| id.pid() == child.id()));
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn descendants(root: u32) -> Result<Vec<ProcessId>> {
    let root = pid_of(root)?;
    let proc = Proc::open()?;
    let mut found = Vec::new();
    let mut buf = Vec::new();
    // Only children of these count: a listed number may have gone to another process before its
    // list was read.
    let mut kin = HashSet::from([root]);
    for Descendant { parent, child } in tree(root, &proc)? {
        if !kin.contains(&parent) {
            continue;
        }
        let mut identify = || -> io::Result<Option<ProcessId>> {
            match ProcessDir::open(&proc, child, &mut buf)? {
                // Otherwise the number may have gone to a stranger since it was listed.
                Some((dir, stat)) if stat.parent == parent.get() => ProcessId::behind(&dir),
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

/// A child and its parent.
pub(crate) struct Descendant {
    pub(crate) parent: Pid,
    pub(crate) child: Pid,
}

fn tree(root: Pid, proc: &Proc) -> Result<Vec<Descendant>> {
    let is_process = is_process(root, proc).map_err(|e| proc::reading(root, e))?;
    if !is_process {
        return Ok(Vec::new());
    }
    let mut lists = ChildLists::default();
    let kin = match breadth_first(root, |parent| lists.children(parent, proc)) {
        Err(NoList::Scan) => by_parents(root, proc),
        Err(NoList::Failed(e)) => Err(e),
        Ok(kin) => Ok(kin),
    };
    kin.map_err(|e| proc::reading(root, e))
}

/// Whether a number is that of a process, and not of another thread of one.
fn is_process(pid: Pid, proc: &Proc) -> io::Result<bool> {
    let process = proc.process(pid);
    // The number of a process with one thread is that of the thread. Most have one, and `status`
    // takes ten times as long.
    Ok(process.has_one_thread()? || process.thread_group()? == Some(pid))
}

/// Every process below `root`, parents first, each once.
pub(crate) fn breadth_first<E>(
    root: Pid,
    mut children: impl FnMut(Pid) -> std::result::Result<Vec<Pid>, E>,
) -> std::result::Result<Vec<Descendant>, E> {
    let mut seen = HashSet::from([root]);
    let mut found: Vec<Descendant> = Vec::new();
    let mut parent = root;
    let mut walked = 0;
    loop {
        for child in children(parent)? {
            if seen.insert(child) {
                found.push(Descendant { parent, child });
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
pub(crate) struct ChildLists {
    /// Two reads of one list.
    text: [Vec<u8>; 2],
    read: usize,
    /// If more lists than this are read, a scan of all processes is cheaper.
    worth_reading: Option<usize>,
}

#[derive(PartialEq, Eq)]
pub(crate) struct Lists {
    threads: Vec<Pid>,
    /// In the order of their birth, thread by thread.
    pub(crate) children: Vec<Pid>,
    /// False: a thread ended meanwhile.
    pub(crate) is_complete: bool,
}

pub(crate) enum NoList {
    /// The lists do not tell, or tell too slowly. A scan of all parents must tell.
    Scan,
    Failed(io::Error),
}

impl ChildLists {
    /// The children of all threads. When a child exits while its list is read, the kernel may omit
    /// another child. The next pass does not show the child that exited. So if two passes in a row
    /// show the same threads and children, the first omitted none.
    ///
    /// A thread that ends gives its children to another thread, and the next pass does not show it.
    /// Only a leader stays listed after its end. So it is read first: its children have then gone
    /// to a thread that is read later.
    pub(crate) fn children(
        &mut self,
        parent: Pid,
        proc: &Proc,
    ) -> std::result::Result<Vec<Pid>, NoList> {
        const PASSES: u32 = 64;
        if let Some(children) = self.children_of_single(parent, proc)? {
            return Ok(children);
        }
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

    /// As [`ChildLists::children`], for a process with one thread: one list is opened, and read twice.
    /// `None`: it has more threads, or the passes do not agree.
    fn children_of_single(
        &mut self,
        parent: Pid,
        proc: &Proc,
    ) -> std::result::Result<Option<Vec<Pid>>, NoList> {
        let process = proc.process(parent);
        let [first, second] = &mut self.text;
        let mut read = || -> io::Result<bool> {
            if !process.has_one_thread()? {
                return Ok(false);
            }
            process.with_child_list(parent, |list| {
                list.read(first)?;
                if !process.has_one_thread()? {
                    return Ok(false);
                }
                list.read(second)?;
                Ok(first == second)
            })
        };
        let is_proven = match read() {
            Ok(is_proven) => is_proven,
            Err(e) if proc::is_absent(&e) => false,
            Err(e) => return Err(NoList::Failed(e)),
        };
        self.count(1, proc)?;
        let [first, _] = &self.text;
        Ok(is_proven.then(|| children_in(first).collect()))
    }

    /// The children of a process that was seen stopped with a single thread. Its empty list omits
    /// none, because a list begins with the oldest child. If a process runs, its list may also be
    /// empty because its thread is taking the place of another one in execve(2).
    pub(crate) fn children_of_stopped(
        &mut self,
        parent: Pid,
        proc: &Proc,
    ) -> std::result::Result<Vec<Pid>, NoList> {
        let (mut children, mut buf) = (Vec::new(), Vec::new());
        self.count(1, proc)?;
        let listed = proc
            .process(parent)
            .children(parent, &mut children, &mut buf);
        match listed {
            Ok(()) if children.is_empty() => Ok(children),
            // It has ended, or there may be omissions.
            _ => self.children(parent, proc),
        }
    }

    /// One pass over a process's lists of children.
    pub(crate) fn pass(&mut self, parent: Pid, proc: &Proc) -> std::result::Result<Lists, NoList> {
        let threads = proc.process(parent).threads().map_err(NoList::Failed)?;
        let mut pass = Lists {
            threads: threads.unwrap_or_default(),
            children: Vec::new(),
            is_complete: true,
        };
        pass.threads
            .sort_unstable_by_key(|&tid| (tid != parent, tid));
        self.count(pass.threads.len(), proc)?;
        let mut buf = Vec::new();
        for &tid in &pass.threads {
            match proc
                .process(parent)
                .children(tid, &mut pass.children, &mut buf)
            {
                Ok(()) => {}
                // The thread ended, and another one has its children now; or the kernel was built
                // without these lists.
                Err(e) if proc::is_absent(&e) => pass.is_complete = false,
                Err(e) => return Err(NoList::Failed(e)),
            }
        }
        Ok(pass)
    }

    fn count(&mut self, lists: usize, proc: &Proc) -> std::result::Result<(), NoList> {
        const FEW: usize = 128;
        self.read += lists;
        if self.read <= FEW {
            return Ok(());
        }
        let worth = match self.worth_reading {
            Some(worth) => worth,
            // A scan does not show hidden processes, but the lists of their parents name them.
            None if proc.is_partial().map_err(NoList::Failed)? => usize::MAX,
            // Each list is read twice or more, so both cost the same at half the number of
            // processes.
            None => usize::try_from(proc.count().map_err(NoList::Failed)?).unwrap_or(usize::MAX),
        };
        self.worth_reading = Some(worth);
        match self.read <= worth {
            true => Ok(()),
            false => Err(NoList::Scan),
        }
    }
}

/// As by the lists of children, but by one scan of all parents.
fn by_parents(root: Pid, proc: &Proc) -> io::Result<Vec<Descendant>> {
    let mut children = all_children(proc)?;
    breadth_first(root, |parent| {
        Ok(children.remove(&parent).unwrap_or_default())
    })
}

/// The children of every process, ascending, by one scan of all parents.
pub(crate) fn all_children(proc: &Proc) -> io::Result<HashMap<Pid, Vec<Pid>>> {
    const ROUNDS: u32 = 8;
    // A hidden process may be a child of any process.
    if proc.is_partial()? {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "/proc hides processes (hidepid)",
        ));
    }
    let mut buf = Vec::new();
    let mut parent_of = HashMap::new();
    let mut ask = proc.pids()?;
    for _ in 0..ROUNDS {
        for pid in ask {
            match proc.process(pid).stat(&mut buf) {
                Ok(Some(stat)) => parent_of.insert(pid, Pid::new(stat.parent)),
                Ok(None) => parent_of.remove(&pid),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                Err(e) => return Err(e),
            };
        }
        // A parent that was not seen has ended, and another process has adopted the child.
        let was_seen = |parent: &Option<Pid>| parent.is_none_or(|of| parent_of.contains_key(&of));
        let adopted = parent_of.iter().filter(|(_, parent)| !was_seen(parent));
        ask = adopted.map(|(&pid, _)| pid).collect();
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
        let pair = |kin: &Descendant| (kin.parent.get(), kin.child.get());
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

    /// The table can look like this if pids are given away while it is read.
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
        /// Three generations. It says when all exist, and it ends with this process.
        fn start() -> Tree {
            // The shell gives a background process /dev/null as input unless told otherwise.
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
            // End-of-file ends every cat, and then the shells.
            self.0.stdin = None;
            self.0.wait().unwrap();
        }
    }

    fn pairs(mut kin: Vec<Descendant>) -> Vec<(u32, u32)> {
        kin.sort_unstable_by_key(|kin| kin.child);
        let pair = |kin: Descendant| (kin.parent.get(), kin.child.get());
        kin.into_iter().map(pair).collect()
    }

    #[test]
    fn a_scan_of_all_parents_finds_whom_the_lists_find() {
        let tree = Tree::start();
        let root = Pid::new(tree.0.id()).unwrap();
        let proc = Proc::open().unwrap();
        let mut lists = ChildLists {
            worth_reading: Some(usize::MAX),
            ..ChildLists::default()
        };
        let Ok(by_lists) = breadth_first(root, |parent| lists.children(parent, &proc)) else {
            panic!("the lists do not tell");
        };
        let by_scan = by_parents(root, &proc).unwrap();
        let by_lists = pairs(by_lists);
        assert_eq!(by_lists.len(), 4, "{by_lists:?}");
        assert_eq!(pairs(by_scan), by_lists);
    }

    #[test]
    fn many_threads_are_not_read_one_by_one() {
        let proc = Proc::open().unwrap();
        let threads = 256;
        let barrier = Arc::new(Barrier::new(threads + 1));
        for _ in 0..threads {
            let barrier = Arc::clone(&barrier);
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || barrier.wait())
                .unwrap();
        }
        // It counts the whole machine, also in a PID namespace that holds only a few. Other lists
        // were read before, so a few threads are too many.
        let processes = usize::try_from(proc.count().unwrap()).unwrap();
        let mut lists = ChildLists {
            read: processes.saturating_sub(threads),
            ..ChildLists::default()
        };
        let listed = lists.children(Pid::new(std::process::id()).unwrap(), &proc);
        barrier.wait();
        assert!(matches!(listed, Err(NoList::Scan)));
    }
}
