//! Deliberate bugs of the drivers, to see that the checkers find them.

/// A mistake that a driver could make. The world makes it when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The publisher shows waves before they are durable.
    TransmitBeforePersist,
    /// The publisher leaves out a wave.
    SkipWave,
    /// The publisher sends a wave twice.
    RepeatWave,
    /// The publisher goes on in its epoch after a backup was restored.
    ForgetNewEpoch,
    /// The publisher does nothing about a reader that is ahead of it.
    IgnoreAhead,
    /// The publisher shows what it failed to store.
    CommitAfterFailure,
    /// The publisher keeps the rock that waves which were not stored were washed onto.
    KeepRockAfterFailure,
    /// The publisher stores the rock of before the wave as the rock of after it.
    StaleRock,
    /// The publisher's storage drops the newest rock when it prunes.
    PruneNewestRock,
    /// The publisher says that a reader has everything before it has.
    EarlyCaughtUp,
    /// The publisher does not wake its readers.
    LostWakeup,
    /// After an interruption the publisher goes on from where the stream had begun.
    ResumeFromStart,
    /// The publisher compares lakes before it looks who may read.
    AccessAfterLake,
    /// The publisher does not look again who may read once a stream is served.
    LookOnce,
    /// The publisher says at each change to who may not read that there is nothing.
    TellAgain,
    /// The publisher lets readers in before that is durable.
    AccessBeforePersist,
    /// The publisher's storage forgets who may read.
    AccessNotPersisted,
    /// The publisher's storage forgets where a killed path stood.
    TombstoneNotPersisted,
    /// The publisher's storage keeps what a killed path had.
    KillKeepsRows,
    /// The publisher opens a killed path again at the aeon where it ended.
    ReopenAtSameAeon,
    /// A killed path that came back with a backup keeps its epoch.
    RestoredTombstoneKeepsEpoch,
    /// The publisher wipes without a rock of the newest aeon.
    WipeWithoutRock,
    /// A fork goes on in the epoch of its origin.
    ForkKeepsEpoch,
    /// A copy is open to everyone.
    CopyIsPublic,
    /// The subscriber drops its replica when its source has ended.
    DropAtEnd,
    /// The subscriber does not take back that its source has ended.
    StayEnded,
    /// The subscriber forgets where it stood, and takes any rock.
    AcceptOlderRock,
    /// The subscriber shows waves before they are durable.
    ShowBeforePersist,
    /// The subscriber washes a wave twice.
    WashTwice,
    /// The subscriber does not look at digests.
    IgnoreDigest,
    /// The subscriber keeps old rows when a rock takes their place.
    KeepRowsAtReset,
    /// The subscriber leaves out a wave for a local reader.
    SkipWaveAtReader,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 32] = [
        Self::TransmitBeforePersist,
        Self::SkipWave,
        Self::RepeatWave,
        Self::ForgetNewEpoch,
        Self::IgnoreAhead,
        Self::CommitAfterFailure,
        Self::KeepRockAfterFailure,
        Self::StaleRock,
        Self::PruneNewestRock,
        Self::EarlyCaughtUp,
        Self::LostWakeup,
        Self::ResumeFromStart,
        Self::AccessAfterLake,
        Self::LookOnce,
        Self::TellAgain,
        Self::AccessBeforePersist,
        Self::AccessNotPersisted,
        Self::TombstoneNotPersisted,
        Self::KillKeepsRows,
        Self::ReopenAtSameAeon,
        Self::RestoredTombstoneKeepsEpoch,
        Self::WipeWithoutRock,
        Self::ForkKeepsEpoch,
        Self::CopyIsPublic,
        Self::DropAtEnd,
        Self::StayEnded,
        Self::AcceptOlderRock,
        Self::ShowBeforePersist,
        Self::WashTwice,
        Self::IgnoreDigest,
        Self::KeepRowsAtReset,
        Self::SkipWaveAtReader,
    ];
}
