//! Where a side stands with the values that it knows of and does not have: it asks the other for
//! them, a bounded number at a time, until each has been looked at.

use super::storage::MissingKey;

/// How many entries may be wanted and not answered: 1,024 small answers fill a packet each.
pub(crate) const MAX_WANTS: usize = 1_024;

/// What is being asked for on one connection.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// How many wants the other side has not answered.
    open: usize,
    /// After which missing value it goes on, if there may be more.
    after: Option<MissingKey>,
    /// More was found missing meanwhile.
    again: bool,
}

impl Asking {
    /// More was found missing; whether to ask now.
    pub(crate) fn found(&mut self) -> bool {
        self.again = self.open > 0;
        self.open == 0
    }

    /// After which value to ask.
    pub(crate) fn after(&self) -> Option<MissingKey> {
        self.after
    }

    /// These are asked for now, of [`MAX_WANTS`] that could have been.
    pub(crate) fn asked(&mut self, wants: &[MissingKey]) {
        self.open = wants.len();
        self.after = wants.last().copied().filter(|_| wants.len() == MAX_WANTS);
    }

    /// The other side has looked at so many; whether to ask for more.
    pub(crate) fn answered(&mut self, wants: u32) -> bool {
        if self.open == 0 {
            return false;
        }
        self.open = self.open.saturating_sub(wants as usize);
        self.open == 0 && (self.after.is_some() || std::mem::take(&mut self.again))
    }
}

#[cfg(test)]
mod tests {
    use groundswell_core::kv::KvAuthor;

    use super::*;

    fn wants(from: usize, count: usize) -> Vec<MissingKey> {
        (from..from + count)
            .map(|number| (KvAuthor::Machine, *blake3::hash(&number.to_le_bytes()).as_bytes()))
            .collect()
    }

    #[test]
    fn all_that_is_missing_is_asked_for_in_turns() {
        let mut asking = Asking::default();
        assert!(asking.found());
        assert_eq!(asking.after(), None);
        let first = wants(0, MAX_WANTS);
        asking.asked(&first);
        assert!(!asking.answered(1_000), "some are not answered yet");
        assert!(asking.answered(24));
        assert_eq!(asking.after(), first.last().copied());
        asking.asked(&wants(MAX_WANTS, 3));
        assert!(!asking.answered(3), "there is no more");
        assert_eq!(asking.after(), None);
    }

    #[test]
    fn what_is_found_meanwhile_is_asked_for_afterwards() {
        let mut asking = Asking::default();
        assert!(asking.found());
        asking.asked(&wants(0, 3));
        assert!(!asking.found());
        assert!(asking.answered(3), "from the beginning");
        assert_eq!(asking.after(), None);
        asking.asked(&wants(0, 1));
        assert!(!asking.answered(u32::MAX), "once");
        assert!(!asking.answered(1), "an answer to nothing");
        assert!(asking.found());
    }
}
