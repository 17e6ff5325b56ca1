//! Measures contenders in turn, and prints a line for each.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// One way to do a job. A sample prepares, does the job once, and returns the time of the job alone.
pub(crate) struct Contender<'a> {
    name: String,
    /// How many times the time of this crate it should take at least.
    goal: Option<f64>,
    sample: Box<dyn FnMut() -> Duration + 'a>,
    taken: Vec<Duration>,
}

/// A job: the floor, this crate, and peers.
pub(crate) struct Row<'a> {
    name: String,
    goal: f64,
    contenders: Vec<Contender<'a>>,
}

pub(crate) fn head(title: &str) {
    println!(
        "\n{title:<46}{:>11}{:>11}{:>8}{:>8}{:>7}",
        "floor", "ours", "ratio", "best", "goal"
    );
}

impl<'a> Row<'a> {
    /// `goal`: how many times the time of the floor this crate should take at most.
    pub(crate) fn new(name: impl Into<String>, goal: f64) -> Row<'a> {
        Row {
            name: name.into(),
            goal,
            contenders: Vec::new(),
        }
    }

    /// Adds a contender. The first is the floor, the second is this crate.
    pub(crate) fn with(self, sample: impl FnMut() -> Duration + 'a) -> Row<'a> {
        self.peer("", None, sample)
    }

    pub(crate) fn peer(
        mut self,
        name: impl Into<String>,
        goal: Option<f64>,
        sample: impl FnMut() -> Duration + 'a,
    ) -> Row<'a> {
        self.contenders.push(Contender {
            name: name.into(),
            goal,
            sample: Box::new(sample),
            taken: Vec::new(),
        });
        self
    }

    /// Takes the samples in turn, prints the medians, and returns those of the floor and of this
    /// crate. `ratio` is that of the medians, `best` that of the shortest times.
    pub(crate) fn measure(mut self) -> [Duration; 2] {
        const TIME: Duration = Duration::from_secs(2);
        const MOST: usize = 301;
        /// A slow contender is not asked again once its samples have taken so long.
        const ENOUGH: Duration = Duration::from_millis(1500);
        let begun = Instant::now();
        let count = self.contenders.len();
        for round in 0..MOST {
            // Each one comes first in turn.
            for at in 0..count {
                let contender = &mut self.contenders[(round + at) % count];
                if contender.taken.iter().sum::<Duration>() < ENOUGH {
                    contender.taken.push((contender.sample)());
                }
            }
            if begun.elapsed() > TIME && round >= 2 {
                break;
            }
        }
        for contender in &mut self.contenders {
            contender.taken.sort_unstable();
        }
        let [floor, ours, peers @ ..] = &self.contenders[..] else {
            panic!("a floor and this crate");
        };
        println!(
            "{:<46}{:>11.1?}{:>11.1?}{:>8.2}{:>8.2}{:>7.2}",
            self.name,
            floor.median(),
            ours.median(),
            times(ours.median(), floor.median()),
            times(ours.taken[0], floor.taken[0]),
            self.goal,
        );
        for peer in peers {
            let goal = peer.goal.map(|goal| format!(", goal {goal}"));
            println!(
                "  {:<55}{:>11.1?}{:>7.1}x ours{}",
                peer.name,
                peer.median(),
                times(peer.median(), ours.median()),
                goal.unwrap_or_default(),
            );
        }
        [floor.median(), ours.median()]
    }
}

/// Prints how the time for each process grows with their number.
pub(crate) fn growth(title: &str, taken: &[(u32, [Duration; 2])]) {
    println!("\n{title:<46}{:>11}{:>11}", "floor", "ours");
    for &(count, [floor, ours]) in taken {
        println!("{count:<46}{:>11.1?}{:>11.1?}", floor / count, ours / count);
    }
}

impl Contender<'_> {
    fn median(&self) -> Duration {
        self.taken[self.taken.len() / 2]
    }
}

pub(crate) fn times(this: Duration, that: Duration) -> f64 {
    this.as_secs_f64() / that.as_secs_f64()
}

/// The time that a job takes.
pub(crate) fn timed<T>(job: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let done = black_box(job());
    let taken = begun.elapsed();
    drop(done);
    taken
}
