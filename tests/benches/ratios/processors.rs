//! Who runs on which processor. To wake another one can count more than all that is measured.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where a caller runs, and where who answers it.
pub struct Placement {
    caller: CpuSet,
    answering: CpuSet,
}

impl Placement {
    /// Nothing counts but the work itself.
    pub fn on_one() -> Self {
        let one = only(processors()[0]);
        Self { caller: one, answering: one }
    }

    /// Each wakes the other one's.
    pub fn on_two() -> Self {
        let processors = processors();
        Self { caller: only(processors[0]), answering: only(processors[processors.len() - 1]) }
    }

    /// As the scheduler would have it.
    pub fn anywhere() -> Self {
        let all = allowed();
        Self { caller: all, answering: all }
    }

    /// Measures, in a thread of its own, what `start` has started.
    pub fn measure<S, T: Send + 'static>(
        self,
        start: impl FnOnce() -> S + Send + 'static,
        measure: impl FnOnce(S) -> T + Send + 'static,
    ) -> T {
        let measuring = std::thread::spawn(move || {
            // What is started from here on stays there as well.
            stay_on(&self.answering);
            let started = start();
            stay_on(&self.caller);
            measure(started)
        });
        measuring.join().expect("it can be measured")
    }
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let allowed = allowed();
    (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect()
}

fn allowed() -> CpuSet {
    sched_getaffinity(None).expect("the processors of this thread")
}

fn only(processor: usize) -> CpuSet {
    let mut only = CpuSet::new();
    only.set(processor);
    only
}

fn stay_on(processors: &CpuSet) {
    sched_setaffinity(None, processors).expect("processors that are allowed");
}
