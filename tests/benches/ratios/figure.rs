//! One measured figure, and how two things are measured fairly against each other.

use std::fmt;
use std::time::Instant;

/// What a figure is to be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most `bound`, and `aim` if possible.
    AtMost { aim: f64, bound: f64 },
    /// At least this.
    AtLeast(f64),
    /// It is only told.
    None,
}

/// A line of the output.
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// The figure itself.
    pub value: f64,
    /// What follows the figure: its unit, and what it is compared with.
    pub unit: &'static str,
    pub goal: Goal,
    /// The measurements behind it.
    pub behind: String,
}

impl Figure {
    /// Whether the figure is within its bound.
    pub fn holds(&self) -> bool {
        match self.goal {
            Goal::AtMost { bound, .. } => self.value <= bound,
            Goal::AtLeast(bound) => self.value >= bound,
            Goal::None => true,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, unit, goal, behind } = self;
        let broken = if self.holds() { "" } else { ", BROKEN" };
        write!(f, "{what}: {value:.2}{unit}")?;
        match goal {
            Goal::AtMost { aim, bound } => write!(f, " (aim {aim}, bound {bound}{broken})")?,
            Goal::AtLeast(bound) => write!(f, " (bound {bound}{broken})")?,
            Goal::None => {}
        }
        write!(f, "; {behind}")
    }
}

/// Measures two things in turn, so that what drifts meets both alike. The first turn of each only
/// warms up.
pub fn in_turn<T>(
    turns: usize,
    mut one: impl FnMut() -> T,
    mut other: impl FnMut() -> T,
) -> (Vec<T>, Vec<T>) {
    (0..=turns).map(|_| (one(), other())).skip(1).unzip()
}

/// As [`in_turn`], and tells the median of each.
pub fn medians_in_turn(
    turns: usize,
    one: impl FnMut() -> f64,
    other: impl FnMut() -> f64,
) -> (f64, f64) {
    let (one, other) = in_turn(turns, one, other);
    (median(one), median(other))
}

/// How many microseconds this takes.
pub fn microseconds(act: impl FnOnce()) -> f64 {
    let start = Instant::now();
    act();
    start.elapsed().as_secs_f64() * 1e6
}

/// The median of measurements.
pub fn median(measured: impl IntoIterator<Item = f64>) -> f64 {
    let mut measured: Vec<f64> = measured.into_iter().collect();
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}
