//! The numbers that stand for the time in an author's entries.
//!
//! A document takes an author's entry of a key only if its timestamp is greater than that of the
//! one before. A wall clock can be set back; this counter can't: it is reserved in blocks, and
//! no number is ever given twice.

use crate::limits::COUNTER_BLOCK;

/// The counter of one author.
///
/// ```
/// use groundswell_core::kv::AuthorCounter;
/// let mut counter = AuthorCounter::restore(0);
/// assert_eq!(counter.next(), None);
/// let bound = counter.reserve(100);
/// // … bound is made durable here, or together with the first entry that needs it …
/// counter.reserved(bound);
/// assert_eq!(counter.next(), Some(1));
/// // After a restart, what may have been given is not given again.
/// assert_eq!(AuthorCounter::restore(bound).reserve(1), 102);
/// ```
#[derive(Debug, Clone)]
pub struct AuthorCounter {
    /// The next number. Never 0.
    next: u64,
    /// Numbers below this one may be given.
    bound: u64,
}

impl AuthorCounter {
    /// A counter that goes on at a stored bound; 0 for a new author. Where entries of the
    /// author are stored with greater numbers, the greatest of them plus one is the bound.
    pub fn restore(bound: u64) -> Self {
        let next = bound.max(1);
        Self { next, bound: next }
    }

    /// The next number, greater than all before. `None` where it is not reserved yet.
    #[allow(clippy::should_implement_trait, reason = "a reservation that is used up is no end")]
    pub fn next(&mut self) -> Option<u64> {
        if self.next >= self.bound {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// The bound that is to be stored so that so many numbers can be given. Nothing changes until
    /// [`Self::reserved`] says that it is stored.
    pub fn reserve(&self, numbers: u64) -> u64 {
        self.next.saturating_add(numbers)
    }

    /// The bound for a block of the usual size ([`COUNTER_BLOCK`]).
    pub fn reserve_block(&self) -> u64 {
        self.reserve(COUNTER_BLOCK)
    }

    /// Takes into use a bound that is durable, or becomes so together with what uses it.
    pub fn reserved(&mut self, bound: u64) {
        self.bound = self.bound.max(bound);
    }

    /// How many numbers can be given before more have to be reserved.
    pub fn left(&self) -> u64 {
        self.bound - self.next
    }
}
