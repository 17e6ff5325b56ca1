//! The functions, each with its victims and what its `Ok` promises.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use process_kill::child::{CommandExt, Group, Limits, Managed, Registry};
use process_kill::{Kill, Process, ProcessId, Report, Result, is_gone, wait_until_gone};

use super::family;

/// Of these, one ignores the first signal and one has a session of its own.
const TREE: &str = "{ { ignore=TERM } } { setsid }";
/// All of them are in the group of the first one.
const GROUP: &str = "setpgid { { ignore=TERM } } { }";
const GRACE: Duration = Duration::from_millis(20);

pub struct Function {
    pub name: &'static str,
    /// As for `stubborn`.
    pub victims: &'static str,
    pub started: By,
    pub promise: Promise,
    pub call: fn(&Scene) -> Result<Vec<u32>>,
}

/// Who starts the victims.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Stage,
    /// They are a [`Managed`] child of the caller.
    Subject,
    /// The function itself.
    Call,
}

/// What `Ok` says.
#[derive(Clone, Copy)]
pub enum Promise {
    AllGone,
    /// All are gone when what the function returned is dropped.
    GoneWhenDropped,
    /// All are gone. With an error too, if the failure passes.
    GoneInAnyCase,
    /// There is no `Ok`, because the victims live.
    Never,
    /// The function returns just these, and sends nothing.
    Exactly(fn(&Scene) -> Vec<u32>),
}

/// What the function is called with.
pub struct Scene {
    /// The root comes first.
    pub pids: Vec<u32>,
    pub ids: Vec<ProcessId>,
    pub port: u16,
    pub dir: PathBuf,
    pub cgroup: PathBuf,
    pub verify: Duration,
    pub command: RefCell<Option<Command>>,
    pub child: RefCell<Option<Managed>>,
}

impl Scene {
    fn root(&self) -> u32 {
        self.pids[0]
    }

    fn now(&self) -> Kill {
        Kill::now().verify_within(self.verify)
    }

    fn graceful(&self) -> Kill {
        self.now().grace(GRACE)
    }

    fn sorted(&self) -> Vec<u32> {
        let mut pids = self.pids.clone();
        pids.sort_unstable();
        pids
    }

    /// Matches the victims alone.
    fn pattern(&self) -> String {
        format!("^{}$", family::program(&self.dir).display())
    }

    fn with_child<T>(&self, f: impl FnOnce(&mut Managed) -> T) -> T {
        f(self.child.borrow_mut().as_mut().expect("a child"))
    }
}

fn nothing(_: Report) -> Vec<u32> {
    Vec::new()
}

fn numbers(ids: Vec<ProcessId>) -> Vec<u32> {
    ids.iter().map(ProcessId::pid).collect()
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// A function that kills, whose victims the stage has started.
const fn kills(
    name: &'static str,
    victims: &'static str,
    call: fn(&Scene) -> Result<Vec<u32>>,
) -> Function {
    Function {
        name,
        victims,
        started: By::Stage,
        promise: Promise::AllGone,
        call,
    }
}

/// A function that finds all victims.
const fn finds(
    name: &'static str,
    victims: &'static str,
    call: fn(&Scene) -> Result<Vec<u32>>,
) -> Function {
    Function {
        promise: Promise::Exactly(Scene::sorted),
        ..kills(name, victims, call)
    }
}

/// A function that kills a child of the caller with its descendants.
const fn ends(name: &'static str, call: fn(&Scene) -> Result<Vec<u32>>) -> Function {
    Function {
        started: By::Subject,
        ..kills(name, TREE, call)
    }
}

pub const FUNCTIONS: &[Function] = &[
    kills("pids", TREE, |s| s.now().pids(&s.pids).map(nothing)),
    kills("pids_graceful", TREE, |s| {
        s.graceful().pids(&s.pids).map(nothing)
    }),
    kills("processes", TREE, |s| {
        s.now().processes(&s.ids).map(nothing)
    }),
    kills("tree", TREE, |s| s.now().tree(s.root()).map(nothing)),
    kills("tree_graceful", TREE, |s| {
        s.graceful().tree(s.root()).map(nothing)
    }),
    kills("trees", TREE, |s| s.now().trees(&s.ids[..1]).map(nothing)),
    kills("groups", GROUP, |s| {
        s.now().groups(&s.pids[..1]).map(nothing)
    }),
    kills("groups_graceful", GROUP, |s| {
        s.graceful().groups(&s.pids[..1]).map(nothing)
    }),
    kills("jobs", "setpgid { { ignore=TERM } } { setsid }", |s| {
        s.now().jobs(&s.pids[..1]).map(nothing)
    }),
    kills("matching", TREE, |s| {
        s.now().matching(&s.pattern()).map(nothing)
    }),
    kills("all_where", TREE, |s| {
        let kill = s.now();
        kill.all_where(|p| p.name() == "stubborn").map(nothing)
    }),
    kills("directory", TREE, |s| {
        s.now().directory(&s.dir).map(nothing)
    }),
    kills("directory_graceful", TREE, |s| {
        s.graceful().directory(&s.dir).map(nothing)
    }),
    kills("port", "listen", |s| s.now().port(s.port).map(nothing)),
    kills("cgroup", TREE, |s| s.now().cgroup(&s.cgroup).map(nothing)),
    kills("cgroup_graceful", TREE, |s| {
        s.graceful().cgroup(&s.cgroup).map(nothing)
    }),
    Function {
        promise: Promise::GoneInAnyCase,
        ..kills("process", "", |s| {
            if let Some(process) = Process::open(s.root())? {
                process.signal(libc::SIGKILL)?;
                if !process.wait_until_gone(s.verify)? {
                    // As if it were a survivor.
                    return wait_until_gone(&s.pids, Duration::ZERO).map(nothing);
                }
            }
            Ok(Vec::new())
        })
    },
    kills("wait_until_gone", "{ { exit } exit } exit", |s| {
        wait_until_gone(&s.pids, s.verify).map(nothing)
    }),
    Function {
        promise: Promise::Never,
        ..kills("wait_in_vain", TREE, |s| {
            wait_until_gone(&s.pids, GRACE).map(nothing)
        })
    },
    Function {
        promise: Promise::Exactly(|_| vec![0]),
        ..kills("is_gone", "", |s| {
            is_gone(s.root()).map(|gone| vec![gone.into()])
        })
    },
    Function {
        promise: Promise::Exactly(|_| vec![0]),
        ..kills("identity_is_gone", "", |s| {
            s.ids[0].is_gone().map(|gone| vec![gone.into()])
        })
    },
    finds("process_id", "", |s| {
        ProcessId::of(s.root()).map(|id| numbers(id.into_iter().collect()))
    }),
    Function {
        promise: Promise::Exactly(|s| s.sorted()[1..].to_vec()),
        ..kills("descendant_pids", TREE, |s| {
            process_kill::descendant_pids(s.root()).map(sorted)
        })
    },
    Function {
        promise: Promise::Exactly(|s| s.sorted()[1..].to_vec()),
        ..kills("descendants", TREE, |s| {
            process_kill::descendants(s.root()).map(numbers).map(sorted)
        })
    },
    finds("processes_where", TREE, |s| {
        process_kill::processes_where(|p| s.pids.contains(&p.pid())).map(numbers)
    }),
    finds("pids_matching", TREE, |s| {
        process_kill::pids_matching(&s.pattern())
    }),
    finds("pids_in_group", GROUP, |s| {
        process_kill::pids_in_group(s.root())
    }),
    finds("pids_in_directory", TREE, |s| {
        process_kill::pids_in_directory(&s.dir)
    }),
    finds("pids_with_cwd_under", TREE, |s| {
        process_kill::pids_with_cwd_under(&s.dir)
    }),
    finds("pids_with_env", TREE, |_| {
        process_kill::pids_with_env("PROCESS_KILL_FINDABLE", "yes")
    }),
    finds("pids_listening_on", "listen", |s| {
        process_kill::pids_listening_on(s.port)
    }),
    ends("children", |s| s.now().children().map(nothing)),
    ends("children_graceful", |s| {
        s.graceful().children().map(nothing)
    }),
    ends("stop", |s| {
        s.with_child(|child| child.stop(&s.now())).map(nothing)
    }),
    ends("kill_all", |s| {
        let registry = Registry::new();
        let _ticket = s.with_child(|child| registry.add(child))?;
        registry.kill_all(&s.graceful()).map(nothing)
    }),
    Function {
        promise: Promise::GoneInAnyCase,
        ..ends("output", |s| {
            let limits = Limits::new().overall(GRACE).drain(GRACE).kill(s.now());
            let child = s.child.take().expect("a child");
            child.output(&limits).map(|_| Vec::new())
        })
    },
    Function {
        victims: "",
        started: By::Call,
        promise: Promise::GoneWhenDropped,
        ..ends("spawn_managed", |s| {
            let mut command = s.command.borrow_mut();
            let command = command.as_mut().expect("a command");
            let child = command.spawn_managed(Group::NewSession)?;
            s.child.replace(Some(child));
            Ok(Vec::new())
        })
    },
];
