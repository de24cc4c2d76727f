//! How many bytes keys and values may take, of one document and of all of them: see [`KvBudget`]. The keeper asks before it
//! stages anything, so that no memory and no disk is taken for what is refused.

use std::collections::HashMap;

use crate::limits::{MAX_KV_BYTES, MAX_KV_DOCUMENT_BYTES};

/// How many bytes the keys and values of a node may take, in memory and, but for the journal, on disk. A key counts with its
/// name, its value and [`KV_ENTRY_BYTES`](crate::limits::KV_ENTRY_BYTES), a deleted one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBudget {
    /// Of one document. This side writes no more than that into it. It takes up to twice as much from the other side, since two
    /// sides that were apart may each have written as much.
    pub document: u64,
    /// Of all documents together. Beyond it a document may still have an equal part of it, so that one machine takes
    /// nothing from the others.
    pub node: u64,
}

impl Default for KvBudget {
    fn default() -> Self {
        Self { document: MAX_KV_DOCUMENT_BYTES, node: MAX_KV_BYTES }
    }
}

/// Whose budget a write would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetOf {
    /// The document's, at this side.
    Document,
    /// The document's, at the other side.
    OtherSide,
    /// That of all documents of this node.
    Node,
}

impl std::fmt::Display for BudgetOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Document => "of this document",
            Self::OtherSide => "that the other side has for this document",
            Self::Node => "of all documents of this node",
        })
    }
}

/// A write would take more bytes than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the budget {of} is {limit} bytes; {used} are used, and this takes {more} more: delete keys, write smaller values, or \
     raise the budget there"
)]
pub struct OverBudget {
    /// Whose budget it is.
    pub of: BudgetOf,
    /// How many bytes are used.
    pub used: u64,
    /// How many more this would take.
    pub more: u64,
    /// How many there may be.
    pub limit: u64,
}

/// How much a document uses of what it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvUsage {
    /// How many keys were ever used, in all spaces, deleted ones included.
    pub keys: usize,
    /// How many may be: [`MAX_KV_KEYS`](crate::limits::MAX_KV_KEYS).
    pub keys_limit: usize,
    /// How many bytes they take: see [`KvBudget`].
    pub bytes: u64,
    /// How many this side writes at most: the smaller one of the budgets of both sides, as far as that of the other is known.
    pub bytes_limit: u64,
}

/// What the documents of a node use.
#[derive(Debug)]
pub(super) struct Used {
    budget: KvBudget,
    bytes: HashMap<u64, u64>,
    total: u64,
}

impl Used {
    pub(super) fn new(budget: KvBudget) -> Self {
        Self { budget, bytes: HashMap::new(), total: 0 }
    }

    /// A document has so many bytes now.
    pub(super) fn set(&mut self, number: u64, bytes: u64) {
        let before = self.bytes.insert(number, bytes).unwrap_or(0);
        self.total = self.total - before + bytes;
    }

    /// A document is gone.
    pub(super) fn remove(&mut self, number: u64) {
        self.total -= self.bytes.remove(&number).unwrap_or(0);
    }

    /// Whether a document may grow by so many bytes by a write of this side, beside what is staged of it and of all. `theirs` is
    /// the budget that the other side has said.
    pub(super) fn may_write(&self, number: u64, staged: Growth, more: i64, theirs: u64) -> Result<(), OverBudget> {
        let (of, limit) = match theirs < self.budget.document {
            true => (BudgetOf::OtherSide, theirs),
            false => (BudgetOf::Document, self.budget.document),
        };
        self.check(number, staged, more, of, limit)
    }

    /// The same for what the other side has written.
    pub(super) fn may_take(&self, number: u64, staged: Growth, more: i64) -> Result<(), OverBudget> {
        self.check(number, staged, more, BudgetOf::Document, self.budget.document.saturating_mul(2))
    }

    fn check(&self, number: u64, staged: Growth, more: i64, of: BudgetOf, limit: u64) -> Result<(), OverBudget> {
        // What frees bytes, or takes none, is always done.
        let Some(more) = u64::try_from(more).ok().filter(|more| *more > 0) else { return Ok(()) };
        let used = self.bytes.get(&number).copied().unwrap_or(0).saturating_add_signed(staged.document);
        if used.saturating_add(more) > limit {
            return Err(OverBudget { of, used, more, limit });
        }
        let part = self.budget.node / (self.bytes.len() as u64).max(1);
        let all = self.total.saturating_add_signed(staged.all);
        let has_part = used.saturating_add(more) <= part;
        if all.saturating_add(more) > self.budget.node && !has_part {
            return Err(OverBudget { of: BudgetOf::Node, used: all, more, limit: self.budget.node });
        }
        Ok(())
    }
}

/// By how many bytes what is staged lets a document grow, and all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    pub(super) document: i64,
    pub(super) all: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Growth = Growth { document: 0, all: 0 };

    fn used(document: u64, node: u64, bytes: &[u64]) -> Used {
        let mut used = Used::new(KvBudget { document, node });
        (0..).zip(bytes).for_each(|(number, bytes)| used.set(number, *bytes));
        used
    }

    #[test]
    fn a_document_has_its_budget_and_takes_twice_that_of_the_other_side() {
        let used = used(100, 1_000, &[90]);
        assert_eq!(used.may_write(0, NONE, 10, u64::MAX), Ok(()));
        let over = OverBudget { of: BudgetOf::Document, used: 90, more: 11, limit: 100 };
        assert_eq!(used.may_write(0, NONE, 11, u64::MAX), Err(over));
        assert_eq!(used.may_write(0, Growth { document: -1, all: -1 }, 11, u64::MAX), Ok(()));
        let over = OverBudget { of: BudgetOf::OtherSide, used: 90, more: 1, limit: 90 };
        assert_eq!(used.may_write(0, NONE, 1, 90), Err(over));
        assert_eq!(used.may_take(0, NONE, 110), Ok(()));
        assert!(used.may_take(0, NONE, 111).is_err());
    }

    #[test]
    fn whoever_frees_bytes_may_always() {
        let used = used(10, 10, &[1_000, 1_000]);
        for more in [0, -1, i64::MIN] {
            assert_eq!((used.may_write(0, NONE, more, 1), used.may_take(0, NONE, more)), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn beyond_the_budget_of_all_each_still_has_its_part() {
        // Four documents, a part of 100 each, of which one has nearly everything.
        let mut used = used(1_000, 400, &[390, 0, 20, 0]);
        assert_eq!(used.may_take(1, NONE, 100), Ok(()));
        assert_eq!(used.may_take(2, NONE, 80), Ok(()));
        let over = OverBudget { of: BudgetOf::Node, used: 410, more: 101, limit: 400 };
        assert_eq!(used.may_take(1, NONE, 101), Err(over));
        assert!(used.may_take(0, NONE, 1).is_err());
        // The one that has it all lets go of it.
        used.set(0, 10);
        assert_eq!(used.may_take(1, NONE, 370), Ok(()));
        used.remove(0);
        assert_eq!(used.may_take(1, NONE, 380), Ok(()));
    }

    #[test]
    fn no_number_overflows() {
        let used = used(u64::MAX, u64::MAX, &[u64::MAX / 2]);
        assert_eq!(used.may_take(0, Growth { document: i64::MAX, all: i64::MAX }, i64::MAX), Ok(()));
    }
}
