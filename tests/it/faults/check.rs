//! What must hold after a run, whatever failed in it.

use std::time::Duration;

use super::calls::Case;
use super::family::{Family, Fate};
use super::functions::Promise;
use super::subject::Said;

/// What the stage saw when the function returned.
pub struct Seen {
    /// End-of-file on the pipe that all victims hold.
    pub were_gone: bool,
    pub expected: Option<Vec<u32>>,
    /// A victim that ended by itself.
    pub ended: Option<u32>,
}

impl Seen {
    /// A process that ended may be left out.
    fn is_expected(&self, found: &[u32]) -> bool {
        let lives = |pid: &&u32| Some(**pid) != self.ended;
        let expected = self.expected.iter().flatten().filter(lives);
        found.iter().filter(lives).eq(expected)
    }
}

/// A process with a pending SIGKILL is gone after this time.
const DYING: Duration = Duration::from_secs(5);

/// What is wrong with a run, if anything.
pub fn what_is_wrong(
    said: &Said,
    seen: &Seen,
    promise: Promise,
    case: Option<Case>,
    family: &mut Family,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut fates = family.fates();
    fates.retain(|&(pid, _)| Some(pid) != seen.ended);
    if fates.iter().any(|&(_, fate)| fate == Fate::Stopped) {
        wrong.push(format!("left stopped: {fates:?}"));
    }
    if said.descriptors[0] != said.descriptors[1] {
        wrong.push(format!("open descriptors: {:?}", said.descriptors));
    }
    let sends = !matches!(promise, Promise::Exactly(_) | Promise::Never);
    if !sends && fates.iter().any(|(_, fate)| fate.is_hit()) {
        wrong.push(format!("a call that sends nothing has killed: {fates:?}"));
    }
    let is_harmless = case.is_none_or(|case| case.is_harmless());
    match (&said.result, promise) {
        (Ok(_), Promise::AllGone | Promise::GoneInAnyCase) if !seen.were_gone => {
            wrong.push(format!("a false Ok: {fates:?}"));
        }
        (Ok(_), Promise::GoneWhenDropped) if !family.are_gone(Duration::ZERO) => {
            wrong.push("it lives although what held it is dropped".to_owned());
        }
        (Ok(_), Promise::Never) => wrong.push("Ok although they live".to_owned()),
        (Ok(found), Promise::Exactly(_)) if !seen.is_expected(found) => {
            wrong.push(format!("{found:?} instead of {:?}", seen.expected));
        }
        (Ok(_), _) => {}
        (Err(failed), _) => {
            let is_kind = ["Survivors", "Unproven", "Io", "Proc"].contains(&failed.kind.as_str());
            if !is_kind {
                wrong.push("an error of this kind".to_owned());
            }
            if is_harmless && !matches!(promise, Promise::Never) {
                wrong.push("an error without a reason".to_owned());
            }
            if sends {
                wrong.extend(all_or_nothing(&failed.kind, promise, case, family, &fates));
            }
        }
    }
    if !wrong.is_empty() {
        wrong.push(match &said.result {
            Ok(found) => format!("said Ok({found:?})"),
            Err(failed) => format!("said {}: {}", failed.kind, failed.text),
        });
    }
    wrong
}

/// What is wrong with an error of a function that kills. A failure that passes must not leave a part
/// of the victims alive, and `Io` and `Proc` say that nothing was sent.
fn all_or_nothing(
    kind: &str,
    promise: Promise,
    case: Option<Case>,
    family: &mut Family,
    fates: &[(u32, Fate)],
) -> Option<String> {
    let hit = fates.iter().any(|(_, fate)| fate.is_hit());
    let sent_nothing = matches!((kind, promise), ("Io" | "Proc", Promise::AllGone));
    if sent_nothing && hit {
        return Some(format!("this kind says that nothing was sent: {fates:?}"));
    }
    let passes = case.is_none_or(|case| case.passes());
    // Before anything is sent, every failure may end the call.
    let all_live = fates.iter().all(|(_, fate)| *fate == Fate::Lives);
    if !passes || sent_nothing || all_live || family.are_gone(DYING) {
        return None;
    }
    let now = family.fates();
    Some(format!("a failure that passed left some alive: {now:?}"))
}
