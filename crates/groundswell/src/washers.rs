//! The threads on which the code of lakes runs for replicas: decoding, wash, encoding, and dropping what they made.
//!
//! There is a thread for every replica that has something to do, up to [`MAX_WASHERS`]; a thread that has nothing to do
//! waits a while for more and ends. Replicas whose last turn took long are apart: they never take more than
//! [`MAX_SLOW_WASHERS`], so that there are always threads for the others. Nothing can interrupt a wash. The threads are
//! none of a runtime's, so that a wash which does not end keeps neither a shutdown nor the end of the process waiting.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    error::panic_message,
    limits::{MAX_SLOW_WASHERS, MAX_WASHERS, WASHER_IDLE},
    sync::lock,
};

/// By how much the priority of a washer is lower (of 19): where both want a processor, it gets a tenth of what another thread
/// gets.
#[cfg(target_os = "linux")]
const WASHER_NICENESS: i32 = 10;

/// What is done for one replica in one turn. A replica has one at a time.
type Turn = Box<dyn FnOnce() + Send>;

/// Whether the last turn of a replica took long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Quick,
    Slow,
}

/// The way to the threads. They end when it is dropped, each after the turn that it is at.
pub(crate) struct Washers(Arc<Pool>);

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    quick: VecDeque<Turn>,
    slow: VecDeque<Turn>,
    threads: usize,
    idle: usize,
    /// How many threads are at a slow replica.
    at_slow: usize,
    closed: bool,
}

impl State {
    /// How many turns could be taken by more threads.
    fn waiting(&self) -> usize {
        self.quick.len() + self.slow.len().min(MAX_SLOW_WASHERS - self.at_slow)
    }

    fn take(&mut self) -> Option<(Turn, Pace)> {
        if let Some(turn) = self.quick.pop_front() {
            return Some((turn, Pace::Quick));
        }
        let turn = self.slow.pop_front_if(|_| self.at_slow < MAX_SLOW_WASHERS)?;
        self.at_slow += 1;
        Some((turn, Pace::Slow))
    }
}

impl Washers {
    /// Starts the first thread, which stays, so that no turn ever lacks one.
    pub(crate) fn start() -> io::Result<Self> {
        let washers = Self(Arc::default());
        lock(&washers.0.state).threads = 1;
        spawn(washers.0.clone())?;
        Ok(washers)
    }

    /// Takes a turn as soon as a thread is free.
    pub(crate) fn run(&self, pace: Pace, turn: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.0.state);
        match pace {
            Pace::Quick => state.quick.push_back(Box::new(turn)),
            Pace::Slow => state.slow.push_back(Box::new(turn)),
        }
        if state.waiting() > state.idle && state.threads < MAX_WASHERS {
            state.threads += 1;
            drop(state);
            if let Err(error) = spawn(self.0.clone()) {
                // The threads that there are take the turn when they can.
                lock(&self.0.state).threads -= 1;
                tracing::warn!(%error, "no more threads for replicas");
            }
        } else {
            drop(state);
        }
        self.0.work.notify_one();
    }
}

impl Drop for Washers {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.work.notify_all();
    }
}

fn spawn(pool: Arc<Pool>) -> io::Result<()> {
    let work = move || {
        step_back();
        pool.work();
    };
    thread::Builder::new().name("groundswell-wash".to_owned()).spawn(work).map(drop)
}

/// Lets all other threads go first, as those that commit this node's own gives and answer its readers: there may be many
/// replicas that use the processor at once. Linux has a priority of each thread (sched(7)); elsewhere it is the process's, and is
/// left alone.
fn step_back() {
    #[cfg(target_os = "linux")]
    {
        // It is lowered, which is always allowed.
        let _ = rustix::process::nice(WASHER_NICENESS);
    }
}

impl Pool {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some((turn, pace)) = state.take() {
                drop(state);
                // The lake's code is caught where it runs; this catches what drops a rock.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(turn)) {
                    tracing::error!(reason = panic_message(&*panic), "a turn of a replica panicked");
                }
                state = lock(&self.state);
                state.at_slow -= usize::from(pace == Pace::Slow);
                continue;
            }
            if state.closed {
                return;
            }
            state.idle += 1;
            let (woken, nothing_came) = self.wait(state);
            state = woken;
            state.idle -= 1;
            if nothing_came && state.waiting() == 0 && state.threads > 1 {
                state.threads -= 1;
                return;
            }
        }
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let waited = self.work.wait_timeout(state, WASHER_IDLE).unwrap_or_else(PoisonError::into_inner);
        (waited.0, waited.1.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// However many slow replicas have a turn that does not end, a quick one has its own.
    #[test]
    fn slow_replicas_leave_threads_to_the_others() {
        let washers = Washers::start().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let begun = Arc::new(AtomicUsize::new(0));
        let (ended, ends) = mpsc::channel();
        for _ in 0..2 * MAX_WASHERS {
            let (held, begun, ended) = (held.clone(), begun.clone(), ended.clone());
            washers.run(Pace::Slow, move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = lock(&held).recv();
                let _ = ended.send(());
            });
        }
        while begun.load(Ordering::SeqCst) < MAX_SLOW_WASHERS {
            thread::yield_now();
        }
        let (quick, answers) = mpsc::channel();
        for n in 0..MAX_WASHERS {
            let quick = quick.clone();
            washers.run(Pace::Quick, move || quick.send(n).unwrap());
        }
        let mut all: Vec<usize> = (0..MAX_WASHERS).map(|_| answers.recv_timeout(LONG).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..MAX_WASHERS).collect::<Vec<_>>());
        assert_eq!(begun.load(Ordering::SeqCst), MAX_SLOW_WASHERS, "no more of them are at it");
        assert!(lock(&washers.0.state).threads <= MAX_WASHERS);
        // Every one of them has its turn in the end.
        drop(release);
        for _ in 0..2 * MAX_WASHERS {
            ends.recv_timeout(LONG).unwrap();
        }
    }

    /// A turn that comes while a thread is only about to take the one before gets a thread of its own.
    #[test]
    fn no_turn_waits_behind_another() {
        let washers = Washers::start().unwrap();
        for _ in 0..100 {
            let (first, waits) = mpsc::channel::<()>();
            let (second, answers) = mpsc::channel();
            washers.run(Pace::Quick, move || waits.recv_timeout(LONG).unwrap_or(()));
            washers.run(Pace::Quick, move || second.send(()).unwrap());
            answers.recv_timeout(LONG).unwrap();
            drop(first);
        }
        washers.run(Pace::Quick, || panic!("as a rock that is dropped can"));
        let (alive, answers) = mpsc::channel();
        washers.run(Pace::Quick, move || alive.send(()).unwrap());
        answers.recv_timeout(LONG).unwrap();
    }
}
