//! Real-time replicated state between peers: no server, no polling.
//!
//! A publisher holds a typed state, the *rock*, on a path and gives diffs, the *waves*. One pure
//! function, the *wash*, turns rock and wave into the next rock, on both sides. Subscribers
//! *surf* a path and get the waves, or a rock and then the waves. Whatever is acknowledged is
//! durable; whatever is away comes back by itself.
//!
//! Begin with [`Node`], then [`Agent`], then [`Publications`] and [`Subscriptions`]; to define
//! state of your own, [`Lake`].

#![forbid(unsafe_code)]

mod agent;
mod catalog;
mod cell;
mod changes;
mod complaints;
mod disk;
mod driver;
mod error;
mod files;
mod fold;
mod follow;
mod followers;
mod frames;
mod freshness;
mod gate;
mod identity;
mod ids;
mod kv;
pub mod lakes;
mod lan;
pub mod limits;
mod link;
mod machine;
mod manage;
mod manager;
mod metrics;
mod moment;
mod network;
mod node;
mod pairing;
mod program;
mod reader;
mod readers;
mod serve;
mod shared;
mod source;
mod store;
mod stranger_log;
mod streams;
mod sync;
mod unknown;
mod washers;

pub use agent::{Agent, PublicationState, Publications, ReplicaState, Subscriptions};
pub use driver::Durability;
pub use error::{
    DeclareError, GiveError, ManageError, OpenError, OutcomeUnknown, ReadError, StorageError, SurfError, TicketError,
    WriteError,
};
pub use freshness::{Ended, Freshness, FreshnessKind};
pub use groundswell_core::kv::{
    KeyError, KvAuthor, KvEntry, KvEvent, KvFilter, KvKey, KvUpdate, ResetReason, SpaceName, TooManyKeys,
    pairing::{ClaimError as ClaimFailure, ClaimPin, Refusal as ClaimRefusal},
};
pub use groundswell_core::{
    Access, AccessError, Aeon, Cursor, CursorError, Epoch, Frequency, Lake, LakeId, Name, Older, Path, PathError,
    Pattern, Rule, UpgradeError, Visible, check::check_lake, is_hidden, pasted, visible, wire::Refusal,
};
pub use ids::{IdError, WriteId};
pub use kv::{
    BudgetOf, KvBudget, KvEnded, KvError, KvFleetEvent, KvFleetSubscription, KvLink, KvOpenError, KvSpace,
    KvSubscription, KvUsage, KvWatch, LinkStatus, OverBudget, Role, WentBack,
};
pub use machine::{Machine, MachineBuilder, MachineState};
pub use manager::{Manager, ManagerBuilder};
pub use metrics::{Metric, MetricValue, MetricsSnapshot, TimesSnapshot};
pub use moment::Moment;
pub use node::{Connections, Inspected, Node, NodeBuilder, NodeStatus, ShutdownError, Stored, TideStatus};
pub use pairing::{ClaimError, ClaimsHeldOpen, ClaimsOpen, IncomingClaim, PendingClaim};
pub use program::{HandlerError, OnRock, Program, ProgramBuilder, Surfed};
pub use reader::{Event, Update, Updates};
pub use source::{ClaimTicket, PeerId, PeerTicket, Source};
#[doc(hidden)] // for the HTTP interface, which shares the one line a second
pub use stranger_log::StrangerLog;

/// The examples of the README and of the pages for users are compiled with the tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/sss.md")]
    struct SolidStateSubscriptions;
    #[doc = include_str!("../../../docs/lakes.md")]
    struct Lakes;
}
