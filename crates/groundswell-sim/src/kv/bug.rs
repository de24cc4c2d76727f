//! Deliberate bugs of the drivers of keys, to see that the checkers find them.

/// A mistake that a driver of keys could make. The world makes it when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvBug {
    /// A write is shown in the view when it is staged.
    ShowBeforeDurable,
    /// A writer is answered when its write is staged.
    AnswerBeforeDurable,
    /// A side sends and says what it has staged.
    HeadBeforeDurable,
    /// A side counts as held what has come and is not stored.
    HoldOnReceipt,
    /// A mark is stored before the entries that it stands for.
    MarkBeforeEntries,
    /// What failed to be stored is shown.
    ShowAfterFailure,
    /// A session goes on when what came could not be stored.
    AnswerAfterFailure,
    /// A write of unknown outcome is acknowledged.
    UnknownIsDone,
    /// A flush does not take back the one before it whose outcome is unknown.
    UnknownStays,
    /// Storage lets an older entry replace a newer one.
    StoreOlder,
    /// Storage drops an entry that is deleted, instead of its tombstone.
    DeleteDropsEntry,
    /// The clock does not see the stamps of the other side.
    ClockDoesNotObserve,
    /// A restart begins with a new clock.
    ClockForgotten,
    /// A restart begins with a new counter.
    CounterForgotten,
    /// A piece of entries is sent without its last one, and with its mark.
    SkipEntry,
    /// The mark after a piece of entries is that of the last piece.
    MarkPastPiece,
    /// A value that is left out counts as delivered.
    LeaveOutUntold,
    /// A session begins without a look for values that were left out in an earlier run.
    LeftOutNotFound,
    /// Every reconciliation takes all that was left out for delivered.
    LeftOutCleared,
    /// A reconciliation takes for compared what was written since it began.
    ReconciledUptoNow,
    /// Entries count as delivered once they are sent.
    DeliveredWhenSent,
    /// A session is not told of values that a reconciliation found missing.
    FoundMissingUntold,
    /// All that is missing is asked for at once.
    WantWithoutLimit,
    /// Storage keeps a value noted as missing when it has come.
    MissingStays,
    /// A session is told that marks are stored before they are.
    StoredBeforeDurable,
    /// A side says that it is current when a session begins.
    CurrentAtHello,
    /// A value is sent that the other side does not take.
    SendTooLarge,
    /// A new connection goes on with the state machine of the last one.
    KeepSession,
    /// The state machine hears of marks only after others were told of the entries.
    EchoReceived,
    /// Readers are not woken by entries of the other side.
    ReaderNotWoken,
    /// A reader of one author is not woken when the other one replaces what it was shown.
    ReaderWokenByAuthorOnly,
    /// A reader keeps what it holds at a reset.
    ReaderKeepsAtReset,
    /// A reader resumes at the head of the view, instead of its cursor.
    ReaderResumesAtHead,
    /// A reader keeps a value that ceased to match.
    ReaderIgnoresLeft,
    /// A reader resumes before the last event that it was given.
    ReaderRepeats,
    /// A side that went back leaves no gap in its counters.
    RestoredWithoutGap,
    /// A side does not notice that the other one holds more of its entries than it was sent.
    RestoredUnnoticed,
    /// A side that went back says that it holds its own entries.
    RestoredHoldsOwn,
    /// Something counts as delivered before both have agreed.
    DeliveredBeforeAgreed,
    /// What comes back is merged by counters, instead of stamps.
    RestoredByCounter,
    /// Both agree, and nothing is signed anew.
    NothingSignedAnew,
    /// What ranks above an entry that came is not sent back.
    NothingSentBack,
    /// An entry of this side's is sent before it is noted that it was.
    SentNotNoted,
}

impl KvBug {
    /// All of them.
    pub const ALL: [Self; 43] = [
        Self::ShowBeforeDurable,
        Self::AnswerBeforeDurable,
        Self::HeadBeforeDurable,
        Self::HoldOnReceipt,
        Self::MarkBeforeEntries,
        Self::ShowAfterFailure,
        Self::AnswerAfterFailure,
        Self::UnknownIsDone,
        Self::UnknownStays,
        Self::StoreOlder,
        Self::DeleteDropsEntry,
        Self::ClockDoesNotObserve,
        Self::ClockForgotten,
        Self::CounterForgotten,
        Self::SkipEntry,
        Self::MarkPastPiece,
        Self::LeaveOutUntold,
        Self::LeftOutNotFound,
        Self::LeftOutCleared,
        Self::ReconciledUptoNow,
        Self::DeliveredWhenSent,
        Self::FoundMissingUntold,
        Self::WantWithoutLimit,
        Self::MissingStays,
        Self::StoredBeforeDurable,
        Self::CurrentAtHello,
        Self::SendTooLarge,
        Self::KeepSession,
        Self::EchoReceived,
        Self::ReaderNotWoken,
        Self::ReaderWokenByAuthorOnly,
        Self::ReaderKeepsAtReset,
        Self::ReaderResumesAtHead,
        Self::ReaderIgnoresLeft,
        Self::ReaderRepeats,
        Self::RestoredWithoutGap,
        Self::RestoredUnnoticed,
        Self::RestoredHoldsOwn,
        Self::DeliveredBeforeAgreed,
        Self::RestoredByCounter,
        Self::NothingSignedAnew,
        Self::NothingSentBack,
        Self::SentNotNoted,
    ];
}
