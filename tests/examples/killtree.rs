//! Kills processes with all their descendants, and names the survivors and their reasons.
//! `cargo run --example killtree -- --help`

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use nix::sys::signal::Signal;
use process_kill::{Coverage, Error, ErrorKind, Kill, ProcessId, Report, Result, Survivor};

const HELP: &str = "\
Kills processes with all their descendants and verifies that they are gone.

Usage: killtree [OPTION].. PID | --group PGID | --pattern RE | --directory DIR | --port N

  PID              this process
  --group PGID     the members of this process group
  --pattern RE     what has a matching command line, as for pgrep -f
  --directory DIR  what works in DIR, runs from it or names it, until nothing does
  --port N         what listens on this TCP port

  --signal NAME|N  the first signal (default TERM)
  --grace SECONDS  how long to wait before SIGKILL, such as 0.5 (default 5; 0: at once)
  --at-most N      send nothing if more processes are found (default 100)
  --dry-run        send nothing, print what would be killed as a tree
  --json           print one JSON object; it tells depths in the tree if nothing was sent

Never killed: killtree and its ancestors, such as a shell that names the pattern itself.

Exit status: 0 all verified gone, or there was nothing to kill
             1 some are not gone; the message says which, and why
             2 bad usage, or the target was refused; nothing was sent
             3 all that were found are gone, but new ones are or may be left
             4 more than --at-most were found, as printed; nothing was sent
             5 a system call failed, DIR does not exist, or /proc cannot be used
";

#[derive(Debug)]
enum Target {
    Pid(u32),
    Group(u32),
    Pattern(String),
    Directory(PathBuf),
    Port(u16),
}

struct Options {
    target: Target,
    how: Kill,
    at_most: usize,
    is_dry_run: bool,
    as_json: bool,
}

/// The exit status, the message and what is printed.
struct Said {
    code: u8,
    why: Option<String>,
    lines: Vec<Line>,
}

/// What became of a process. If nothing was sent: its depth and its command line.
struct Line {
    pid: u32,
    depth: Option<usize>,
    text: String,
}

impl Said {
    fn json(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(Line::json).collect();
        let (code, lines) = (self.code, lines.join(","));
        let why = self.why.as_deref().map_or("null".into(), quoted);
        format!(r#"{{"status":{code},"message":{why},"processes":[{lines}]}}"#) + "\n"
    }
}

impl Line {
    fn new(pid: u32, depth: Option<usize>, text: String) -> Line {
        Line { pid, depth, text }
    }

    fn plain(&self) -> String {
        let text = self.text.replace(char::is_control, "?");
        let indent = "  ".repeat(self.depth.unwrap_or(0));
        format!("{indent}{} {text}\n", self.pid)
    }

    fn json(&self) -> String {
        let (pid, text) = (self.pid, quoted(&self.text));
        let depth = self.depth.map_or("null".into(), |depth| depth.to_string());
        format!(r#"{{"pid":{pid},"depth":{depth},"text":{text}}}"#)
    }
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => return say(0, HELP, None),
        Err(e) => return say(2, "", Some(&format!("{e}\nTry killtree --help."))),
    };
    let said = match plan(&options) {
        Err(e) => judge(&[Err(e)]),
        Ok(plan) if options.is_dry_run || plan.code != 0 => plan,
        Ok(plan) => judge(&watching(&plan.lines, || kill(&options))),
    };
    let text = match options.as_json {
        true => said.json(),
        false => said.lines.iter().map(Line::plain).collect(),
    };
    say(said.code, &text, said.why.as_deref())
}

/// `None`: help is wanted.
fn parse() -> std::result::Result<Option<Options>, lexopt::Error> {
    let (mut targets, mut how, mut at_most) = (Vec::new(), Kill::graceful(), 100);
    let (mut is_dry_run, mut as_json) = (false, false);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Value(pid) => targets.push(Target::Pid(pid.parse_with(number)?)),
            Long("group") => targets.push(Target::Group(args.value()?.parse_with(number)?)),
            Long("pattern") => targets.push(Target::Pattern(args.value()?.string()?)),
            Long("directory") => targets.push(Target::Directory(args.value()?.into())),
            Long("port") => targets.push(Target::Port(args.value()?.parse_with(port)?)),
            Long("signal") => how = how.first_signal(args.value()?.parse_with(signal)?),
            Long("grace") => how = how.grace(args.value()?.parse_with(seconds)?),
            Long("at-most") => at_most = args.value()?.parse_with(number)?,
            Long("dry-run") => is_dry_run = true,
            Long("json") => as_json = true,
            Short('h') | Long("help") => return Ok(None),
            unknown => return Err(unknown.unexpected()),
        }
    }
    let [target] = <[Target; 1]>::try_from(targets)
        .map_err(|targets| format!("one target is wanted, not {targets:?}"))?;
    Ok(Some(Options {
        target,
        how: how.at_most(at_most),
        at_most,
        is_dry_run,
        as_json,
    }))
}

/// The error says what would be right. The caller quotes the text.
type Parsed<T> = std::result::Result<T, &'static str>;

fn number<T: std::str::FromStr>(text: &str) -> Parsed<T> {
    let number = text.parse();
    number.map_err(|_| "PID, PGID and --at-most take numbers up to 2147483647")
}

fn port(text: &str) -> Parsed<u16> {
    let port = text.parse().map(std::num::NonZeroU16::get);
    port.map_err(|_| "--port takes a number from 1 to 65535")
}

fn signal(text: &str) -> Parsed<i32> {
    let name = format!("SIG{}", text.strip_prefix("SIG").unwrap_or(text));
    let number = name.parse().map(|signal: Signal| signal as i32);
    let number = number.ok().or_else(|| text.parse().ok());
    let number = number.filter(|number| (1..=64).contains(number));
    number.ok_or("--signal takes a name such as TERM, or a number from 1 to 64")
}

fn seconds(text: &str) -> Parsed<Duration> {
    let seconds = Duration::try_from_secs_f64(text.parse().unwrap_or(f64::NAN));
    seconds.map_err(|_| "--grace takes a number of seconds, such as 5 or 0.5")
}

fn kill(Options { target, how, .. }: &Options) -> Vec<Result<Report>> {
    match target {
        Target::Pid(pid) => vec![how.tree(*pid)],
        Target::Group(pgid) => vec![how.jobs(&[*pgid])],
        Target::Directory(dir) => vec![how.directory(dir)],
        Target::Pattern(pattern) => with_descendants(how, |how| how.matching(pattern)),
        Target::Port(port) => with_descendants(how, |how| how.port(*port)),
    }
}

/// Kills the trees of what a search finds. What it finds after that is left alone.
fn with_descendants(how: &Kill, search: impl Fn(&Kill) -> Result<Report>) -> Vec<Result<Report>> {
    // With no room for any, the error lists what was found. Their identities never hit a successor.
    let look = how.clone().at_most(0);
    let found = match search(&look) {
        Err(e) if e.kind() == ErrorKind::TooMany => e,
        result => return vec![result],
    };
    let roots: Vec<_> = found.survivors().iter().filter_map(Survivor::id).collect();
    match how.trees(&roots) {
        Ok(report) => vec![Ok(report), search(&look)],
        failed => vec![failed],
    }
}

/// Runs `kill`. On a terminal a line says meanwhile how many are left.
fn watching<T>(found: &[Line], kill: impl FnOnce() -> T) -> T {
    const ERASE: &str = "\r\x1b[K";
    if !stderr().is_terminal() {
        return kill();
    }
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (begun, all) = (Instant::now(), found.len());
            while ended.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
                let is_left = |line: &&Line| !process_kill::is_gone(line.pid).unwrap_or(false);
                let left = found.iter().filter(is_left).count();
                let time = begun.elapsed().as_secs();
                // A terminal that is gone does not stop the kill.
                let _ = write!(stderr(), "{ERASE}{left} of {all} left after {time} s");
            }
            let _ = write!(stderr(), "{ERASE}");
        });
        let result = kill();
        drop(done);
        result
    })
}

fn judge(results: &[Result<Report>]) -> Said {
    let error = results.iter().find_map(|result| result.as_ref().err());
    // `Debug` is the text with the error of the system call.
    let (mut lines, mut why) = (Vec::new(), error.map(|e| format!("{e:?}")));
    for result in results {
        let report = result.as_ref().map_or_else(Error::report, Some);
        let Some(report) = report else { continue };
        let gone = report.iter();
        lines.extend(gone.map(|(pid, how)| Line::new(pid, None, format!("{how:?}"))));
        if report.coverage() != Coverage::Exact && error.is_none() {
            why = Some("all that were found are gone, but one may have been missed".into());
        }
    }
    let kind = error.map(Error::kind);
    for survivor in error.map_or(&[][..], Error::survivors) {
        let text = match kind {
            Some(ErrorKind::TooMany) => "is left alone".into(),
            _ => survivor.reason().to_string(),
        };
        lines.push(Line::new(survivor.pid(), None, text));
    }
    let code = match kind {
        None => 0,
        Some(ErrorKind::Survivors) => 1,
        Some(ErrorKind::Refused | ErrorKind::Pattern) => 2,
        Some(ErrorKind::Unproven) => 3,
        Some(ErrorKind::TooMany) if results.len() > 1 => {
            why = why.map(|why| format!("all that were found are gone; after that {why}"));
            3
        }
        Some(ErrorKind::TooMany) => 4,
        Some(_) => 5,
    };
    Said { code, why, lines }
}

/// What a kill would find now. Sends nothing.
fn plan(options: &Options) -> Result<Said> {
    let (target, most) = (&options.target, options.at_most);
    let roots = match target {
        Target::Pid(pid) => ProcessId::of(*pid)?.map_or_else(Vec::new, |id| vec![id.pid()]),
        Target::Group(pgid) => process_kill::pids_in_group(*pgid)?,
        Target::Pattern(pattern) => process_kill::pids_matching(pattern)?,
        Target::Directory(dir) => process_kill::pids_in_directory(dir)?,
        Target::Port(port) => process_kill::pids_listening_on(*port)?,
    };
    let mut live = Live::new();
    process_kill::processes_where(|p| {
        if p.state() != 'Z' || p.threads() > 1 {
            let command = p.command_line().unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            live.insert(p.pid(), (p.parent(), p.session(), command));
        }
        false
    })?;
    let parent = |pid: &u32| live.get(pid).map(|&(parent, ..)| parent);
    let ancestors = std::iter::successors(Some(std::process::id()), parent);
    let mut seen: HashSet<u32> = ancestors.chain([1]).collect();
    let is_named = matches!(target, Target::Pid(_) | Target::Group(_));
    let mut lines = Vec::new();
    if let Some(pid) = roots.iter().find(|pid| is_named && seen.contains(pid)) {
        let why = format!("refused {target:?}: {pid} is init, killtree or its ancestor");
        let (code, why) = (2, Some(why));
        return Ok(Said { code, why, lines });
    }
    for root in roots {
        walk(root, 0, &live, &mut seen, &mut lines);
    }
    let found = lines.len();
    let why = format!("nothing was sent: {found} found, at most {most} expected");
    let code = if found > most { 4 } else { 0 };
    let why = (code == 4).then_some(why);
    Ok(Said { code, why, lines })
}

/// Parent, session and command line of each live process.
type Live = BTreeMap<u32, (u32, u32, String)>;

/// Lists a process, its children, and what is left of the session that it leads.
fn walk(pid: u32, depth: usize, live: &Live, seen: &mut HashSet<u32>, lines: &mut Vec<Line>) {
    if !seen.insert(pid) {
        return;
    }
    if let Some((.., command)) = live.get(&pid) {
        lines.push(Line::new(pid, Some(depth), command.clone()));
    }
    let children = live.iter().filter(|&(_, &(parent, ..))| parent == pid);
    let session = live.iter().filter(|&(_, &(_, session, _))| session == pid);
    for (&next, _) in children.chain(session) {
        walk(next, depth + 1, live, seen, lines);
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// A reader that is gone does not change what was killed, so the status is kept.
fn say(code: u8, text: &str, why: Option<&str>) -> ExitCode {
    if let Some(why) = why {
        let _ = writeln!(stderr(), "killtree: {why}");
    }
    let _ = stdout().write_all(text.as_bytes());
    ExitCode::from(code)
}
