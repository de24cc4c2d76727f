//! Deliberate bugs of the drivers of pairs, to see that the checkers find them.

/// A mistake that a driver of pairs could make. The world makes it when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairBug {
    /// "I do not know you" ends a pairing.
    NotKnownEnds,
    /// A release is said before it is durable.
    SaidBeforeDurable,
    /// A release is said once, on one connection.
    SaidOnce,
    /// A start does not go on to tell of releases.
    UntoldAfterStart,
    /// A connection that breaks counts as an answer.
    ToldByBreak,
    /// What was told is forgotten at once, so that a side which is restored is not answered.
    ToldIsForgotten,
    /// A hello is answered by its peer alone, whatever document it names.
    AnyDocument,
    /// A release ends the pairing that there is, whichever it is of.
    AnyRelease,
    /// A hello has the former documents of all peers forgotten.
    ForgetsOthers,
    /// A manager takes a document again that it has given up.
    TakesGivenUp,
    /// A machine that was released goes on with the same document.
    SameDocument,
    /// A machine that is claimed lets another manager claim it.
    ClaimedTwice,
    /// A manager that honours a release goes on as before.
    ManagerGoesOn,
    /// A machine says that it is a manager's before that is durable.
    HandedOverBeforeDurable,
}

impl PairBug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NotKnownEnds,
        Self::SaidBeforeDurable,
        Self::SaidOnce,
        Self::UntoldAfterStart,
        Self::ToldByBreak,
        Self::ToldIsForgotten,
        Self::AnyDocument,
        Self::AnyRelease,
        Self::ForgetsOthers,
        Self::TakesGivenUp,
        Self::SameDocument,
        Self::ClaimedTwice,
        Self::ManagerGoesOn,
        Self::HandedOverBeforeDurable,
    ];
}
