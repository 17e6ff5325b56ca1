//! `pids_matching`: what `pgrep -f` answers, and what `pgrep` cannot answer.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use process_kill::{ErrorKind, pids_matching};

use super::fixture::{Victim, alone, eventually, is_root, patient, states, stubborn};

/// A victim with these arguments. The first of them is its `argv[0]`.
fn victim(spec: &str, args: &[impl AsRef<OsStr>]) -> Victim {
    let mut command = stubborn(spec);
    if let Some((name, args)) = args.split_first() {
        command.arg0(name).args(args);
    }
    Victim::spawn(command)
}

/// A word that is in the arguments of no other process on the machine.
fn word(of: &str) -> String {
    format!("{of}-{}-{}", std::process::id(), fastrand::u64(..))
}

/// The pids of `among` that the installed pgrep finds. `None` if pgrep refuses the pattern.
fn pgrep(pattern: &str, among: &[u32]) -> Option<Vec<u32>> {
    let output = Command::new("pgrep")
        .args(["-f", "--", pattern])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    match output.status.code() {
        Some(0 | 1) => {}
        Some(2) => return None,
        _ => panic!("pgrep -f -- {pattern:?}: {output:?}"),
    }
    let pids = String::from_utf8(output.stdout).unwrap();
    let mut pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    pids.retain(|pid| among.contains(pid));
    pids.sort_unstable();
    Some(pids)
}

/// Random command lines and patterns of a few characters, so that they often match.
struct Random(fastrand::Rng);

impl Random {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.0.usize(..from.len())]
    }

    fn text(&mut self, longest: usize) -> String {
        const OFTEN: &[&str] = &["a", "b", "c", "A", " ", "-", "1"];
        const ANY: &[&str] = &[
            ".", "+", "*", "?", "[", "]", "(", ")", "{", "}", "\\", "|", "^", "$", ":", "=", ",",
            "/", "~", "\"",
        ];
        (0..self.0.usize(..=longest))
            .map(|_| match self.0.u8(..4) {
                0 => self.pick(ANY),
                _ => self.pick(OFTEN),
            })
            .collect()
    }

    /// The arguments are never all empty, because pgrep takes such a command line to be empty.
    fn args(&mut self) -> Vec<String> {
        loop {
            let args: Vec<String> = (0..self.0.usize(1..6)).map(|_| self.text(6)).collect();
            if args.iter().any(|arg| !arg.is_empty()) {
                return args;
            }
        }
    }

    fn pattern(&mut self, depth: u32) -> String {
        let mut pattern = String::new();
        for _ in 0..self.0.usize(1..4) {
            let atom = match self.0.u8(..12) {
                0 if depth > 0 => format!("({})", self.pattern(depth - 1)),
                1 if depth > 0 => {
                    format!("{}|{}", self.pattern(depth - 1), self.pattern(depth - 1))
                }
                2 => self
                    .pick(&["^", "$", "^a", "b$", "^-", " $", "^[[]"])
                    .into(),
                3 | 4 => self
                    .pick(&[
                        "[abc]",
                        "[^a ]",
                        "[[:alpha:]]",
                        "[^[:alnum:]]",
                        "[]a]",
                        "[^]a]",
                        "[a-c]",
                        "[[:space:]]",
                        "[[.-.]]",
                        "[[=a=]]",
                        "[+*?]",
                        "[a\\]",
                        "[$^]",
                    ])
                    .into(),
                5 => ".".into(),
                6 => format!(
                    "\\{}",
                    self.pick(&[".", "*", "[", "(", "\\", "$", "w", "1", "{"])
                ),
                7 => " ".into(),
                _ => self
                    .pick(&["a", "b", "c", "A", "-", "1", "ab", "a b", "  "])
                    .into(),
            };
            pattern += &atom;
            if self.0.u8(..4) == 0 {
                pattern += self.pick(&["*", "+", "?", "{2}", "{0,1}", "{1,}", "{,2}", "{2,3}"]);
            }
        }
        pattern
    }
}

#[test]
fn pgrep_says_the_same() {
    if Command::new("pgrep").arg("--version").output().is_err() {
        println!("skipped: pgrep_says_the_same needs pgrep");
        return;
    }
    const SEED: u64 = 0x7067_7265_7020_2d66;
    let mut random = Random(fastrand::Rng::with_seed(SEED));
    let lines: Vec<Vec<String>> = (0..40).map(|_| random.args()).collect();
    let victims: Vec<Victim> = lines.iter().map(|args| victim("", args)).collect();
    let mut pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
    pids.sort_unstable();
    // How many patterns told some victims from others, and how many were refused.
    let (mut telling, mut refused) = (0, 0);
    for round in 0..240 {
        let pattern = match round % 4 {
            // Most of these are refused. The others are full of surprises.
            0 => random.text(5),
            // A piece of a command line, unchanged.
            1 => {
                let line = lines[random.0.usize(..lines.len())].join(" ");
                let start = random.0.usize(..=line.len());
                line[start..].chars().take(random.0.usize(1..6)).collect()
            }
            _ => random.pattern(2),
        };
        if pattern.is_empty() {
            continue;
        }
        let found = match pids_matching(&pattern) {
            Ok(mut found) => {
                assert!(found.is_sorted());
                found.retain(|pid| pids.contains(pid));
                Some(found)
            }
            Err(e) if e.kind() == ErrorKind::Pattern => None,
            Err(e) => panic!("{pattern:?}, seed {SEED:#x}: {e}"),
        };
        match &found {
            None => refused += 1,
            Some(found) if !found.is_empty() && found.len() < pids.len() => telling += 1,
            Some(_) => {}
        }
        let expected = pgrep(&pattern, &pids);
        // This pgrep may use glibc, and each libc refuses other patterns: musl has no `{,2}` and no
        // collating symbols, glibc no `$?`.
        if cfg!(target_env = "musl") && found.is_none() != expected.is_none() {
            continue;
        }
        assert_eq!(found, expected, "{pattern:?}, seed {SEED:#x}, {lines:?}");
    }
    assert!(telling > 100 && refused > 15, "{telling} {refused}");
}

#[test]
fn arguments_are_joined_by_blanks_and_empty_ones_at_the_end_dropped() {
    let word = word("joined");
    let victim = victim("", &[&word, "", "b", "", ""]);
    let found = [victim.pid()];
    assert_eq!(pids_matching(&word).unwrap(), found);
    assert_eq!(pids_matching(&format!("{word}  b")).unwrap(), found);
    assert_eq!(pids_matching(&format!("^{word} {{2}}b$")).unwrap(), found);
    assert_eq!(pids_matching(&format!("{word}  b ")).unwrap(), []);
    assert_eq!(pids_matching(&format!("{word} b")).unwrap(), []);
}

#[test]
fn nothing_but_empty_arguments_is_the_name_in_brackets() {
    let name = format!("blank{}", std::process::id());
    let victims: Vec<Victim> = [&[""][..], &["", ""], &["", "", "", ""]]
        .map(|args| victim(&format!("name={name}"), args))
        .into();
    let mut pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
    pids.sort_unstable();
    assert_eq!(pids_matching(&format!(r"^\[{name}]$")).unwrap(), pids);
}

#[test]
fn no_arguments_at_all_are_the_name_in_brackets() {
    let name = format!("none{}", std::process::id());
    let mut command = stubborn(&format!("name={name}"));
    let environ: Vec<CString> = command
        .get_envs()
        .map(|(key, value)| [key.as_bytes(), b"=", value.unwrap().as_bytes()].concat())
        .map(|entry| CString::new(entry).unwrap())
        .collect();
    let program = CString::new(env!("CARGO_BIN_EXE_stubborn")).unwrap();
    // SAFETY: execve(2) is async-signal-safe, and the closure allocates nothing.
    unsafe {
        command.pre_exec(move || {
            let none = [std::ptr::null()];
            let environ = [environ[0].as_ptr(), std::ptr::null()];
            libc::execve(program.as_ptr(), none.as_ptr(), environ.as_ptr());
            Err(std::io::Error::last_os_error())
        })
    };
    let victim = Victim::spawn(command);
    let found = pids_matching(&format!(r"^\[{name}]$")).unwrap();
    assert_eq!(found, [victim.pid()]);
}

/// A process that changes its title as setproctitle(3) does.
#[test]
fn arguments_that_were_written_over_are_what_they_are_now() {
    let (old, new) = (word("old"), word("new"));
    let long = "x".repeat(3000);
    for title in [new.clone(), format!("{long}-{new}")] {
        let mut command = stubborn(&format!("title={title}"));
        command.arg(&old).env_clear();
        // The environment lies behind the arguments. The title overwrites it.
        command.env("STUBBORN", format!("title={title}"));
        command.env("ROOM", "x".repeat(4000));
        let victim = Victim::spawn(command);
        let found = [victim.pid()];
        assert_eq!(pids_matching(&old).unwrap(), []);
        assert_eq!(pids_matching(&new).unwrap(), found);
        assert_eq!(pids_matching(&format!("^{title}$")).unwrap(), found);
        assert_eq!(pgrep(&format!("^{title}$"), &found).unwrap(), found);
    }
}

#[test]
fn a_zombie_is_its_name_in_brackets() {
    let word = word("zombie");
    let name = format!("dead{}", std::process::id());
    let victim = victim(&format!("name={name} exit"), &[&word]);
    victim.until_zombie();
    assert_eq!(
        pids_matching(&format!(r"^\[{name}]$")).unwrap(),
        [victim.pid()]
    );
    assert_eq!(pids_matching(&word).unwrap(), []);
}

#[test]
fn a_process_without_its_leader_is_matched_by_a_live_thread() {
    let word = word("leaderless");
    let victim = victim("leader-exits", &[&word, "", "end"]);
    eventually("the leader exits", || states(victim.pid())[0] == 'Z');
    assert_eq!(pids_matching(&word).unwrap(), [victim.pid()]);
    assert_eq!(
        pids_matching(&format!("^{word}  end$")).unwrap(),
        [victim.pid()]
    );
}

#[test]
fn a_kernel_thread_is_its_name_in_brackets() {
    if !std::fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        println!("skipped: a_kernel_thread_is_its_name_in_brackets needs to see kthreadd");
        return;
    }
    assert!(pids_matching(r"^\[kthreadd]$").unwrap().contains(&2));
}

#[test]
fn newlines_are_matched_as_they_are() {
    let word = word("newline");
    let victim = victim("", &[&*word, "x\ny\t", "\x1b\x07z"]);
    let found = [victim.pid()];
    for pattern in ["x\ny\t \x1b\x07z", "x[\n]y", "x.y.z?", "y\t \x1b.z$"] {
        let found_by =
            pids_matching(&format!("{word} {pattern}").replace("y\t \x1b.", "x\ny\t \x1b."));
        assert_eq!(found_by.unwrap(), found, "{pattern:?}");
    }
    for pattern in [" x y", " x?y", " xy", " x.z"] {
        let found_by = pids_matching(&format!("{word}{pattern}")).unwrap();
        assert_eq!(found_by, [], "{pattern:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_matched_as_they_are() {
    let word = word("bytes");
    let args: [OsString; 3] = [
        word.clone().into(),
        OsString::from_vec(b"a\xff\xfeb".to_vec()),
        "h\u{e9}".into(),
    ];
    let victim = victim("", &args);
    // In the C locale every byte is a character.
    for pattern in [" a..b", " a[^b]{2}b", " a..b h\u{e9}", " a.*h..$"] {
        let found = pids_matching(&format!("{word}{pattern}")).unwrap();
        assert_eq!(found, [victim.pid()], "{pattern:?}");
    }
    for pattern in [" a.b", r" a[?]", " ab", " a  b", " a\u{fffd}", " a.*h.$"] {
        let found = pids_matching(&format!("{word}{pattern}")).unwrap();
        assert_eq!(found, [], "{pattern:?}");
    }
}

#[test]
fn the_locale_of_the_program_says_what_a_character_is() {
    if !alone!(the_locale_of_the_program_says_what_a_character_is) {
        return;
    }
    let word = word("locale");
    let args: [OsString; 2] = [
        format!("{word}h\u{e9}h").into(),
        OsString::from_vec(b"a\xffb".to_vec()),
    ];
    let victim = victim("", &args);
    let found = [victim.pid()];
    let two = format!("{word}h..h");
    let one = format!("{word}h.h");
    assert_eq!(pids_matching(&two).unwrap(), found);
    assert_eq!(pids_matching(&one).unwrap(), []);
    // SAFETY: this process runs no other test.
    if unsafe { libc::setlocale(libc::LC_ALL, c"C.UTF-8".as_ptr()) }.is_null() {
        println!("skipped: there is no locale C.UTF-8");
        return;
    }
    assert_eq!(pids_matching(&one).unwrap(), found);
    assert_eq!(pids_matching(&two).unwrap(), []);
    // A byte that is no character does not hide the bytes around it.
    assert_eq!(
        pids_matching(&format!("{word}.*b$|^{word}.*h a")).unwrap(),
        found
    );
    assert_eq!(pids_matching(&format!("{word}h\u{e9}h")).unwrap(), found);
}

#[test]
fn a_long_command_line_is_matched_at_its_end() {
    let (first, last) = (word("first"), word("last"));
    // The kernel takes 128 KiB in one argument. It takes 2 MiB in all if the stack may grow to 8
    // MiB.
    for long in [1, 14] {
        let mut args = vec![first.clone()];
        args.resize(1 + long, "x".repeat(128 * 1024 - 1));
        args.push(last.clone());
        let victim = victim("", &args);
        let found = [victim.pid()];
        assert_eq!(pids_matching(&last).unwrap(), found);
        assert_eq!(pids_matching(&format!("xx {last}$")).unwrap(), found);
        assert_eq!(
            pids_matching(&format!("^{first} x.*x {last}$")).unwrap(),
            found
        );
    }
}

#[test]
fn a_child_just_spawned_is_found() {
    // Alone, so that no other thread of this process delays its children.
    if !alone!(a_child_just_spawned_is_found) {
        return;
    }
    for round in 0..200 {
        let word = word("spawned");
        let mut command = stubborn("");
        command.arg(&word);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let found = pids_matching(&word);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap(), [child.id()], "round {round}");
    }
}

#[test]
fn the_caller_is_left_out() {
    let all = pids_matching("").map_err(|e| e.kind());
    assert_eq!(all, Err(ErrorKind::Pattern));
    let victim = victim("", &["any"]);
    for pattern in [".", "^", "it", ".*"] {
        let all = pids_matching(pattern).unwrap();
        assert!(!all.contains(&std::process::id()));
        assert!(all.contains(&victim.pid()) || pattern == "it");
    }
}

#[test]
fn a_pattern_may_start_with_a_dash() {
    let word = word("dash");
    let victim = victim("", &["name", &format!("--{word}"), "-v"]);
    let found = [victim.pid()];
    assert_eq!(pids_matching(&format!("--{word}")).unwrap(), found);
    assert_eq!(pids_matching(&format!("-[-]{word} -v$")).unwrap(), found);
}

/// The text of regerror(3), if regcomp(3) refuses the pattern.
fn refusal(pattern: &str) -> Option<String> {
    let pattern = CString::new(pattern).unwrap();
    let mut text = [0_u8; 256];
    // SAFETY: a NUL-terminated pattern, a regex_t that is freed only if it was compiled, and a
    // buffer of the given length.
    unsafe {
        let mut regex = std::mem::zeroed();
        let rc = libc::regcomp(&raw mut regex, pattern.as_ptr(), libc::REG_EXTENDED);
        if rc == 0 {
            libc::regfree(&raw mut regex);
            return None;
        }
        libc::regerror(rc, &raw const regex, text.as_mut_ptr().cast(), text.len());
    }
    let text = std::ffi::CStr::from_bytes_until_nul(&text).unwrap();
    Some(text.to_str().unwrap().to_owned())
}

#[test]
fn a_pattern_that_regcomp_refuses_comes_with_its_words() {
    for pattern in [
        "(",
        "[",
        "a{2,1}",
        "[z-a]",
        "[[:nothing:]]",
        "a\\",
        "(a",
        "a{1",
    ] {
        let words = refusal(pattern).unwrap_or_else(|| panic!("{pattern} is taken"));
        let error = pids_matching(pattern).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pattern, "{pattern}");
        assert!(error.to_string().contains(&words), "{error}: {words}");
        assert!(error.to_string().contains(pattern), "{error}");
    }
    // Each libc decides which other patterns it refuses.
    for pattern in [
        "*", "+a", "?", "a**", ")", "a|", "|", "()", "{", "a{,}", "[]", "]", "}",
    ] {
        let kind = pids_matching(pattern).err().map(|e| e.kind());
        let expected = refusal(pattern).map(|_| ErrorKind::Pattern);
        assert_eq!(kind, expected, "{pattern}");
    }
}

#[test]
fn a_pattern_is_neither_empty_nor_holds_a_nul() {
    for pattern in ["", "\0", "a\0", "\0a", "a\0b", ".\0("] {
        let error = pids_matching(pattern).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pattern, "{pattern:?}");
    }
}

#[test]
fn a_pattern_too_large_for_regcomp_is_refused() {
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    let too_large = [
        "(a?){1,30000}".into(),
        "((a{1,100}){1,100}){1,100}".into(),
        "a{1,200}{1,200}".into(),
        "a{10,}{10,}{10,}{10,}".into(),
        format!("a{}", "+".repeat(30)),
        "(".repeat(30) + "a" + &")+".repeat(30),
        nested(10_000),
        nested(300),
        "(".repeat(100_000),
        "a?".repeat(20_000),
        "a|".repeat(20_000),
        "()".repeat(20_000),
        "^".repeat(20_000),
        "[[:alpha:]]".repeat(20_000),
    ];
    for pattern in too_large {
        let error = pids_matching(&pattern).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pattern, "{pattern:.30}");
    }
    // A pattern without metacharacters is not compiled, so it is never too large.
    assert_eq!(pids_matching(&"a".repeat(1 << 20)).unwrap(), []);
}

/// The worst accepted pattern of each kind, in a thread with a small stack.
#[test]
fn no_pattern_overflows_the_stack_or_exhausts_the_memory() {
    if !is_root("no_pattern_overflows_the_stack_or_exhausts_the_memory") {
        return;
    }
    // The test sees only its own processes, because some of these patterns take long for each
    // command line.
    if !alone!(
        no_pattern_overflows_the_stack_or_exhausts_the_memory,
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc"
    ) {
        return;
    }
    let victim = victim("", &["a".repeat(64)]);
    let taken = |pattern: String| {
        let search = move || pids_matching(&pattern);
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        match thread.spawn(search).unwrap().join().unwrap() {
            Ok(found) => Some(found),
            Err(e) if e.kind() == ErrorKind::Pattern => None,
            Err(e) => panic!("{e}"),
        }
    };
    let nested = |open: &str, atom: &str, close: &str, depth| {
        open.repeat(depth) + atom + &close.repeat(depth)
    };
    // Each shape makes a pattern of a number of parts. The largest accepted number is found by
    // halving.
    let shapes: [&dyn Fn(usize) -> String; 31] = [
        &|n| "$".repeat(n),
        &|n| "\\b".repeat(n),
        &|n| "(a|\\b)".repeat(n),
        &|n| "(\\b|\\B)".repeat(n),
        &|n| "a?".repeat(n),
        &|n| "a*".repeat(n),
        &|n| "[ab]?".repeat(n),
        &|n| ".*".repeat(n),
        &|n| "()".repeat(n),
        &|n| "(|a)".repeat(n),
        &|n| "(a?)".repeat(n),
        &|n| "(a*)?".repeat(n),
        &|n| "a|".repeat(n),
        &|n| "|".repeat(n),
        &|n| format!("a{{0,{n}}}"),
        &|n| format!("a?{{1,{n}}}"),
        &|n| format!("(a?){{1,{n}}}"),
        &|n| format!("(a?|b?){{1,{n}}}"),
        &|n| format!("(()|a){{1,{n}}}"),
        &|n| format!("(|){{1,{n}}}"),
        &|n| format!("(|){{{n},}}"),
        &|n| format!("((|a)?){{0,{n}}}"),
        &|n| nested("(", "a?", ")", n),
        &|n| nested("(", "a?", ")?", n),
        &|n| nested("(", "a", ")+", n),
        &|n| nested("(a?", "()", "|b?)?", n),
        &|n| "[ab]?[^bc]?".repeat(n),
        &|n| format!("[{}]?", "ab".repeat(100)).repeat(n),
        &|n| format!("({}a)*", "a|".repeat(n)),
        &|n| format!("[{}]{}", "a".repeat(n), "|".repeat(n)),
        &|n| format!("({}a)+", "b?c?".repeat(n)),
    ];
    for shape in shapes {
        let (mut taken_at, mut refused_at) = (1, 20_000);
        assert_eq!(taken(shape(refused_at)), None);
        while refused_at - taken_at > 1 {
            let n = usize::midpoint(taken_at, refused_at);
            match taken(shape(n)) {
                Some(found) => {
                    assert_eq!(found, [victim.pid()], "{:.40} {n}", shape(n));
                    taken_at = n;
                }
                None => refused_at = n,
            }
        }
        assert!(taken_at > 5, "{:.40}", shape(taken_at));
    }
    // musl makes an alternative of each member.
    for members in [1000, 2000, 10_000, 100_000] {
        let found = taken(format!("[{}]{{60}}", "ab".repeat(members / 2)));
        assert!(found.is_none_or(|found| found == [victim.pid()]));
        let found = taken(format!("[{}]", "ab".repeat(members / 2)));
        assert!(found.is_none_or(|found| found == [victim.pid()]));
    }
    // In KiB (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    assert!(peak < 512 << 10, "{peak} KiB");
}

/// Children of a plain fork(2) always show their parent's command line. The search does not wait
/// for each of them.
#[test]
fn forked_children_hold_nobody_up() {
    if !alone!(forked_children_hold_nobody_up) {
        return;
    }
    let mut pids = Vec::new();
    for _ in 0..300 {
        // SAFETY: the child makes async-signal-safe calls only.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                loop {
                    nix::unistd::pause();
                }
            }
            nix::unistd::ForkResult::Parent { child } => pids.push(child.as_raw().unsigned_abs()),
        }
    }
    let begun = Instant::now();
    let found = pids_matching("forked_children_hold_nobody_up").unwrap();
    let took = begun.elapsed();
    let found_all = pids.iter().all(|pid| found.contains(pid));
    patient().pids(&pids).unwrap();
    assert!(found_all, "{found:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A child of posix_spawn shows its parent's command line until it has locked the memory map that
/// the two share. Other threads of the parent can delay that.
#[test]
fn a_child_just_spawned_does_not_show_its_parent() {
    if !alone!(a_child_just_spawned_does_not_show_its_parent) {
        return;
    }
    let done = AtomicBool::new(false);
    let map = || {
        while !done.load(Ordering::Relaxed) {
            // This is so large that malloc(3) maps it, and unmaps it again.
            drop(std::hint::black_box(Vec::<u8>::with_capacity(64 << 20)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(map);
        }
        let failed = (0..50).find_map(|_| {
            let word = word("shared");
            let mut command = stubborn("");
            command.arg(&word).env("FINDERS", &word);
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let mut child = command.spawn().unwrap();
            let found = pids_matching(&word);
            child.kill().unwrap();
            child.wait().unwrap();
            let expected = vec![child.id()];
            (found.as_deref().ok() != Some(&expected)).then_some((found, expected))
        });
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}
