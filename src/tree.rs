//! Whole trees: freeze, list, rescan until nothing new.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::descent::{ChildLists, NoList, all_children};
use super::error::{Error, Result};
use super::proc::{self, Proc, Stat};
use super::process::ProcessGroup;
use super::sys::{Pid, SIGCONT, SIGKILL, SIGSTOP};
use super::wait::{Batch, Deadline, Taken};

/// Lists the descendants of all live targets and takes them in, until the deadline: some fork as fast as
/// they are listed. True: there was a new one.
pub(super) fn take_descendants(batch: &mut Batch, deadline: Deadline) -> Result<bool> {
    let before = batch.len();
    let mut children = Children::default();
    let mut index = 0;
    while index < batch.len() && !deadline.has_passed() {
        if let Some(parent) = batch.live(index) {
            for child in children.of(parent, batch)? {
                batch.take_child(parent, child)?;
            }
        }
        index += 1;
    }
    Ok(batch.len() > before)
}

/// Stops all live targets and their descendants, which are taken in as they are found. True: it is
/// sure that none is missing. False: it was not by the deadline, or a member cannot be stopped.
///
/// A process is stopped before its children are listed, so it forks no more once they are. A pass is
/// quiet when it found nobody new, every member was seen stopped and no listed child was reaped
/// before it could be pinned. One quiet pass is no proof against chains of processes that fork and
/// exit; two in a row are as good as it gets.
pub(super) fn freeze(batch: &mut Batch, deadline: Deadline) -> Result<bool> {
    halt_all(batch, deadline)?;
    let mut quiet = 0;
    let mut can_stop_all = true;
    loop {
        let mut is_quiet = true;
        let mut children = Children::default();
        let mut index = 0;
        while let Some(within) = (index < batch.len()).then_some(index) {
            index += 1;
            let Some(parent) = batch.live(within) else {
                continue;
            };
            // A storm makes a pass too long to be gone through when there is no time left.
            if deadline.has_passed() {
                return Ok(false);
            }
            let is_stopped = batch.stop(within, deadline)?;
            // Who may not be signalled is a survivor anyway; waiting for it to stop is in vain.
            can_stop_all &= !batch.is_doubtful(within);
            is_quiet &= is_stopped || batch.is_doubtful(within);
            // It has ended instead, and its number may be a stranger's.
            if batch.live(within).is_none() {
                continue;
            }
            for child in children.of(parent, batch)? {
                match batch.take_child(parent, child)? {
                    Taken::New => {
                        is_quiet = false;
                        batch.halt(batch.len() - 1);
                    }
                    Taken::Vanished => is_quiet = false,
                    Taken::Known | Taken::Dead => {}
                }
            }
        }
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(can_stop_all);
        }
    }
}

/// Sends SIGSTOP to all live targets and to what descendants they are seen to have, without waiting:
/// most of a storm is over before the first of its processes is waited for.
fn halt_all(batch: &mut Batch, deadline: Deadline) -> Result<()> {
    /// For one look at a tree that is not a storm, however little time was given.
    const AT_LEAST: Duration = Duration::from_millis(50);
    let at_least = Deadline::after(AT_LEAST);
    for index in 0..batch.len() {
        batch.halt(index);
    }
    let mut children = Children::default();
    let mut index = 0;
    while index < batch.len() {
        if let Some(parent) = batch.live(index) {
            // The more processes of a storm still run, the less of the machine is left to us.
            if deadline.has_passed() && at_least.has_passed() {
                break;
            }
            for child in children.seen(parent, batch)? {
                if batch.take_child(parent, child)? == Taken::New {
                    batch.halt(batch.len() - 1);
                }
            }
        }
        index += 1;
    }
    Ok(())
}

/// The children of one process after another, by the kernel's lists or, where those do not tell, by
/// one scan of all parents.
#[derive(Default)]
pub(super) struct Children {
    lists: ChildLists,
    all: Option<HashMap<Pid, Vec<Pid>>>,
}

impl Children {
    /// None is missing that lives through the call.
    pub(super) fn of(&mut self, parent: Pid, batch: &mut Batch) -> Result<Vec<Pid>> {
        self.list(parent, batch, |lists, proc| lists.children(parent, proc))
    }

    /// Those of one look, the oldest first: enough for a start.
    pub(super) fn seen(&mut self, parent: Pid, batch: &mut Batch) -> Result<Vec<Pid>> {
        self.list(parent, batch, |lists, proc| {
            match lists.pass(parent, proc)? {
                pass if pass.is_complete || !pass.children.is_empty() => Ok(pass.children),
                _ => Err(NoList::Scan),
            }
        })
    }

    fn list(
        &mut self,
        parent: Pid,
        batch: &mut Batch,
        list: impl FnOnce(&mut ChildLists, &mut Proc) -> std::result::Result<Vec<Pid>, NoList>,
    ) -> Result<Vec<Pid>> {
        let proc = batch.proc()?;
        let failed = |e| Error::io(format!("list the children of {}", parent.get()), e);
        if self.all.is_none() {
            match list(&mut self.lists, proc) {
                Ok(children) => return Ok(children),
                Err(NoList::Failed(e)) => return Err(failed(e)),
                Err(NoList::Scan) => self.all = Some(all_children(proc).map_err(failed)?),
            }
        }
        let all = self.all.as_ref();
        Ok(all
            .and_then(|all| all.get(&parent).cloned())
            .unwrap_or_default())
    }
}

/// A group, and perhaps a session of the same number, that was made for a tree: nobody else is in it.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) group: Arc<ProcessGroup>,
    pub(super) is_session: bool,
}

/// Who left a tree by losing its parent, but not the group or session that a member leads.
pub(super) struct Orphans {
    /// Who adopts the tree's orphans and has no other reason to have children in it: the ancestors
    /// of the root but its parent, whose other children look just like orphans.
    adopters: HashSet<Pid>,
    /// The caller and its ancestors.
    spared: HashSet<Pid>,
    /// The groups and sessions that members lead.
    led: HashMap<Pid, Arc<ProcessGroup>>,
    /// Those of them that nobody else is in, whoever the parent.
    own_groups: HashSet<Pid>,
    own_sessions: HashSet<Pid>,
    /// The groups of these that were stopped as a whole, and are to be continued or killed.
    stopped: HashSet<Pid>,
}

impl Orphans {
    pub(super) fn of(ancestors: &[Pid], spared: HashSet<Pid>, own: &[Own]) -> Orphans {
        let parent = ancestors.first();
        let pgids = |own: &[&Own]| own.iter().map(|own| own.group.pgid).collect();
        let sessions: Vec<&Own> = own.iter().filter(|own| own.is_session).collect();
        Orphans {
            adopters: ancestors
                .iter()
                .filter(|&pid| Some(pid) != parent)
                .copied()
                .collect(),
            spared,
            led: own
                .iter()
                .map(|own| (own.group.pgid, Arc::clone(&own.group)))
                .collect(),
            own_groups: pgids(&own.iter().collect::<Vec<_>>()),
            own_sessions: pgids(&sessions),
            stopped: HashSet::new(),
        }
    }

    /// Takes in the orphans. True: there was a new one.
    pub(super) fn take(&mut self, batch: &mut Batch) -> Result<bool> {
        self.scan(batch).map(|(found, _)| found)
    }

    /// As [`Orphans::take`], and stops every group that is led by a member and has no strangers in
    /// it: what forks and exits without pause is outrun by that alone. True: there was a new orphan
    /// or a group to stop, so that it is worth another look.
    pub(super) fn stop(&mut self, batch: &mut Batch) -> Result<bool> {
        let (mut news, shared) = self.scan(batch)?;
        for (pgid, group) in &self.led {
            if shared.contains(pgid) || self.stopped.contains(pgid) {
                continue;
            }
            // EPERM: no member may be signalled, and each is a survivor by itself.
            if group.signal(SIGSTOP).unwrap_or(false) {
                self.stopped.insert(*pgid);
                news = true;
            }
        }
        Ok(news)
    }

    /// Kills the groups that were stopped.
    pub(super) fn kill(&mut self) {
        for pgid in self.stopped.drain() {
            if let Some(group) = self.led.get(&pgid) {
                // Whoever is left of it is pinned and verified one by one.
                group.signal(SIGKILL).unwrap_or(false);
            }
        }
    }

    /// Whether there was a new orphan, and the groups in which there are strangers.
    fn scan(&mut self, batch: &mut Batch) -> Result<(bool, HashSet<Pid>)> {
        const ROUNDS: u32 = 8;
        self.note_leaders(batch)?;
        let before = batch.len();
        let (groups, sessions) = (&self.own_groups, &self.own_sessions);
        self.led.retain(|pgid, group| {
            let is_only_a_group = groups.contains(pgid) && !sessions.contains(pgid);
            !(group.was_replaced() || is_only_a_group && matches!(group.signal(0), Ok(false)))
        });
        if self.led.is_empty() {
            return Ok((false, HashSet::new()));
        }
        let mut buf = Vec::new();
        let mut ask = proc::visible(batch.proc()?)?;
        // Those whose parents are neither of the tree nor adopters, with group and parent.
        let mut others = HashMap::new();
        for _ in 0..ROUNDS {
            for pid in std::mem::take(&mut ask) {
                others.remove(&pid);
                let Some(stat) = proc::readable(pid, batch.proc()?.stat(pid, &mut buf))? else {
                    continue;
                };
                if stat.is_zombie() || !self.leads(&stat) || batch.has_live(pid) {
                    continue;
                }
                if self.spared.contains(&pid) || !self.is_ours(&stat) {
                    others.insert(pid, (Pid::new(stat.group), Pid::new(stat.parent)));
                    continue;
                }
                batch.take(pid, |stat, _| Ok(self.leads(stat) && self.is_ours(stat)))?;
            }
            // A parent that was not seen here is a stranger, or has ended just now: then the child has
            // another one, or has ended too. Asking again tells.
            let is_unknown =
                |parent: &Pid| !others.contains_key(parent) && !batch.has_live(*parent);
            let lost = others
                .iter()
                .filter(|(_, (_, parent))| parent.is_none_or(|p| is_unknown(&p)));
            ask = lost.map(|(&pid, _)| pid).collect();
            if ask.is_empty() {
                break;
            }
        }
        // What is left of them are strangers, and so are their children.
        let mut strangers: HashSet<Pid> = ask.into_iter().collect();
        strangers.extend(others.keys().filter(|pid| self.spared.contains(pid)));
        while let Some((&pid, _)) = others.iter().find(|(pid, (_, parent))| {
            !strangers.contains(pid) && parent.is_some_and(|parent| strangers.contains(&parent))
        }) {
            strangers.insert(pid);
        }
        let groups = strangers.iter().filter_map(|pid| others.get(pid)?.0);
        let mut shared: HashSet<Pid> = groups.collect();
        // Strangers may be hidden.
        if batch.is_partial()? {
            let own = |pgid: &&Pid| self.own_groups.contains(pgid);
            shared.extend(self.led.keys().filter(|pgid| !own(pgid)));
        }
        Ok((batch.len() > before, shared))
    }

    /// Whether a member leads its group or session.
    fn leads(&self, stat: &Stat<'_>) -> bool {
        let of = |number| Pid::new(number).is_some_and(|id| self.led.contains_key(&id));
        of(stat.group) || of(stat.session)
    }

    /// Whether one whose group or session is led by a member belongs to the tree.
    fn is_ours(&self, stat: &Stat<'_>) -> bool {
        let is_in =
            |set: &HashSet<Pid>, number| Pid::new(number).is_some_and(|id| set.contains(&id));
        is_in(&self.adopters, stat.parent)
            || is_in(&self.own_groups, stat.group)
            || is_in(&self.own_sessions, stat.session)
    }

    fn note_leaders(&mut self, batch: &mut Batch) -> Result<()> {
        let mut buf = Vec::new();
        for index in 0..batch.len() {
            let Some(pid) = batch.live(index) else {
                continue;
            };
            if self.led.contains_key(&pid) {
                continue;
            }
            let Some(stat) = proc::readable(pid, batch.proc()?.stat(pid, &mut buf))? else {
                continue;
            };
            if stat.group == pid.get() || stat.session == pid.get() {
                let failed = |e: io::Error| Error::io(format!("pin group {}", pid.get()), e);
                self.led
                    .insert(pid, Arc::new(ProcessGroup::open(pid).map_err(failed)?));
            }
        }
        Ok(())
    }
}

/// What was stopped and not killed goes on.
impl Drop for Orphans {
    fn drop(&mut self) {
        for pgid in &self.stopped {
            if let Some(group) = self.led.get(pgid) {
                // There is nobody to tell, and nothing else to try.
                group.signal(SIGCONT).unwrap_or(false);
            }
        }
    }
}
