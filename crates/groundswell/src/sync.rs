//! Locks of the standard library without their poisoning: what they guard here is changed in
//! one assignment, or rebuilt by who finds it broken, so a panic elsewhere poisons nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that threads get in the order in which they asked. A mutex of the standard library is not fair: a thread that
/// lets go of it and asks again at once has it before any that it woke comes to run.
#[derive(Default)]
pub(crate) struct FairLock {
    queue: Mutex<Queue>,
    turn: Condvar,
}

/// Numbers of those that have asked, and of those that have let go again.
#[derive(Default)]
struct Queue {
    asked: u64,
    done: u64,
}

/// Holds the lock until it is dropped.
pub(crate) struct FairGuard<'a>(&'a FairLock);

impl FairLock {
    pub(crate) fn lock(&self) -> FairGuard<'_> {
        let mut queue = lock(&self.queue);
        let before = queue.asked;
        queue.asked += 1;
        while queue.done < before {
            queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        FairGuard(self)
    }

    /// How many threads wait for it.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        let queue = lock(&self.queue);
        (queue.asked - queue.done).saturating_sub(1)
    }
}

impl Drop for FairGuard<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).done += 1;
        self.0.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        thread,
    };

    use super::*;

    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            thread::yield_now();
        }
    }

    /// One thread takes the lock again and again, without a pause. Another that asks once has it after one more turn at most.
    #[test]
    fn a_thread_that_asks_once_waits_for_one_more_turn_of_one_that_asks_on_and_on() {
        const ENOUGH: u64 = 100_000;
        let (fair, turns, ends) = (FairLock::default(), AtomicU64::new(0), AtomicBool::new(false));
        let now = || turns.load(Ordering::SeqCst);
        let mut most = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(Ordering::SeqCst) && now() < ENOUGH {
                    let _guard = fair.lock();
                    turns.fetch_add(1, Ordering::SeqCst);
                    // Its turn ends when the other asks.
                    until(|| fair.waiting() > 0 || ends.load(Ordering::SeqCst));
                }
            });
            let mut last = 0;
            while last < 1_000 && most <= 1 {
                until(|| now() > last);
                let before = now();
                let guard = fair.lock();
                last = now();
                most = most.max(last - before);
                drop(guard);
            }
            ends.store(true, Ordering::SeqCst);
        });
        assert!(most <= 1, "{most} more turns");
    }

    /// However many ask: each has its turn in the order of asking, also after one that panicked.
    #[test]
    fn turns_are_in_the_order_of_asking() {
        let (fair, order) = (FairLock::default(), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            let first = fair.lock();
            for n in 0..20_u64 {
                let (fair, order) = (&fair, &order);
                let thread = scope.spawn(move || {
                    let _guard = fair.lock();
                    lock(order).push(n);
                    if n == 3 {
                        std::panic::resume_unwind(Box::new("its turn ends all the same"));
                    }
                });
                until(|| fair.waiting() == n + 1);
                if n == 3 {
                    scope.spawn(move || assert!(thread.join().is_err()));
                }
            }
            drop(first);
        });
        assert_eq!(*lock(&order), (0..20).collect::<Vec<_>>());
    }
}
