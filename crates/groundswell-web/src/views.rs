//! What is told of nodes, machines, publications and subscriptions, as JSON.

use groundswell::{
    Access, ClaimsOpen, Frequency, FreshnessKind, KvLink, KvUsage, LinkStatus, MetricsSnapshot, Moment, PeerId, Rule,
    Source, TideStatus,
};
use serde::Serialize;

/// The wall clock, in milliseconds since 1970; 0 where it shows an earlier time.
pub(crate) fn now_ms() -> u64 {
    Moment::now().unix_ms()
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeView {
    pub(crate) id: String,
    pub(crate) ticket: String,
    pub(crate) role: &'static str,
    pub(crate) version: &'static str,
    pub(crate) run: String,
    pub(crate) started_ms: u64,
    pub(crate) now_ms: u64,
    pub(crate) peers: Vec<String>,
    pub(crate) metrics: MetricsSnapshot,
    pub(crate) http: HttpView,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct HttpView {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) refused: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MachineView {
    pub(crate) id: String,
    pub(crate) manager: Option<String>,
    pub(crate) own: bool,
    link: &'static str,
    since_ms: Option<Moment>,
    current: bool,
    current_at_ms: Option<Moment>,
    undelivered_since_ms: Option<Moment>,
    went_back_at_ms: Option<Moment>,
    agreed: bool,
    overruled: u64,
    skew_ms: Option<i64>,
    duplicate: bool,
    problem: Option<String>,
    reconciled: u64,
    keys_used: usize,
    bytes_used: u64,
    bytes_limit: u64,
    spaces: Vec<String>,
}

impl MachineView {
    pub(crate) fn new(
        id: PeerId,
        manager: Option<PeerId>,
        own: bool,
        status: LinkStatus,
        usage: KvUsage,
        spaces: Vec<String>,
    ) -> Self {
        let (link, since) = match status.link {
            KvLink::Unclaimed => ("unclaimed", None),
            KvLink::Connecting => ("connecting", None),
            KvLink::Online => ("online", None),
            KvLink::Offline { since } => ("offline", Some(since)),
            KvLink::NotKnown { since } => ("not_known", Some(since)),
            _ => ("released", None),
        };
        Self {
            id: id.to_string(),
            manager: manager.map(|manager| manager.to_string()),
            own,
            link,
            since_ms: since,
            current: status.current,
            current_at_ms: status.current_at,
            undelivered_since_ms: status.undelivered_since,
            went_back_at_ms: status.went_back.map(|went_back| went_back.at),
            agreed: status.went_back.is_none_or(|went_back| went_back.agreed),
            overruled: status.went_back.map_or(0, |went_back| went_back.overruled),
            skew_ms: status.skew_ms,
            duplicate: status.duplicate,
            problem: status.problem,
            reconciled: status.reconciled,
            keys_used: usage.keys,
            bytes_used: usage.bytes,
            bytes_limit: usage.bytes_limit,
            spaces,
        }
    }
}

/// Whether a machine takes claims, and who has claimed it in vain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PairingView {
    open: bool,
    /// For how long, where it was opened for a time.
    open_ms: Option<u64>,
    /// For how long a ticket's one-time secret admits a claim, where there is one.
    ticket_ms: Option<u64>,
    attempts_left: usize,
    in_vain: Vec<InVainView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct InVainView {
    manager: String,
    claims: usize,
}

impl From<ClaimsOpen> for PairingView {
    fn from(open: ClaimsOpen) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let in_vain = |(manager, claims): (PeerId, usize)| InVainView { manager: manager.to_string(), claims };
        Self {
            open: open.open,
            open_ms: open.open_for.map(ms),
            ticket_ms: open.secret_for.map(ms),
            attempts_left: open.attempts_left,
            in_vain: open.attempts.into_iter().map(in_vain).collect(),
        }
    }
}

impl PairingView {
    /// The same without the times that run out by themselves, which are no news.
    pub(crate) fn without_times(&self) -> Self {
        let running = |ms: Option<u64>| ms.map(|_| 0);
        Self { open_ms: running(self.open_ms), ticket_ms: running(self.ticket_ms), ..self.clone() }
    }

    /// When the next of those times is over.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.open_ms.into_iter().chain(self.ticket_ms).min()
    }
}

/// A rule in the words of the command line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RuleView {
    frequency: serde_json::Value,
    horizon: Option<u64>,
}

impl From<Rule> for RuleView {
    fn from(rule: Rule) -> Self {
        let frequency = match rule.frequency {
            Frequency::Automatic => "auto".into(),
            Frequency::Every(waves) => waves.get().into(),
            Frequency::Never => "never".into(),
        };
        Self { frequency, horizon: rule.horizon }
    }
}

/// Who may read a path: `public`, `secret`, or the ids of those who may.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum AccessView {
    Word(&'static str),
    Peers(Vec<String>),
}

impl AccessView {
    fn new(public: bool, allowed: Vec<String>) -> Self {
        match (public, allowed) {
            (true, _) => Self::Word("public"),
            (false, allowed) if allowed.is_empty() => Self::Word("secret"),
            (false, allowed) => Self::Peers(allowed),
        }
    }
}

impl From<&Access<PeerId>> for AccessView {
    fn from(access: &Access<PeerId>) -> Self {
        match access {
            Access::Public => Self::new(true, Vec::new()),
            Access::Only(peers) => Self::new(false, peers.iter().map(ToString::to_string).collect()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PublicationView {
    pub(crate) agent: String,
    pub(crate) path: String,
    lake: Option<String>,
    pub(crate) aeon: Option<u64>,
    pub(crate) waves_per_second: Option<f64>,
    kept_waves: u64,
    kept_rocks: usize,
    readers: usize,
    reader_lag: u64,
    rule: Option<RuleView>,
    access: Option<AccessView>,
    killed: bool,
}

impl PublicationView {
    pub(crate) fn new(status: TideStatus, waves_per_second: Option<f64>) -> Self {
        Self {
            access: status.public.map(|public| AccessView::new(public, status.allowed.unwrap_or_default())),
            // A publication without a state is listed only where it was killed.
            killed: status.aeon.is_none(),
            agent: status.agent,
            path: status.path,
            lake: status.lake,
            aeon: status.aeon,
            waves_per_second,
            kept_waves: status.kept_waves,
            kept_rocks: status.kept_rocks,
            readers: status.readers,
            reader_lag: status.reader_lag,
            rule: status.rule.map(RuleView::from),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SubscriptionView {
    pub(crate) source: Source,
    lake: Option<String>,
    pub(crate) aeon: Option<u64>,
    pub(crate) waves_per_second: Option<f64>,
    kept_waves: u64,
    kept_rocks: usize,
    readers: usize,
    reader_lag: u64,
    rule: Option<RuleView>,
    freshness: FreshnessKind,
    stale: bool,
    detail: Option<String>,
    since_ms: Option<Moment>,
    current_at_ms: Option<Moment>,
    lag_ms: Option<u64>,
}

impl SubscriptionView {
    /// The same without what changes by itself.
    pub(crate) fn without_lag(&self) -> Self {
        Self { lag_ms: None, ..self.clone() }
    }

    pub(crate) fn new(source: Source, status: TideStatus, waves_per_second: Option<f64>) -> Self {
        let live = status.freshness == FreshnessKind::Live;
        let behind = status.current_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        Self {
            source,
            lake: status.lake,
            aeon: status.aeon,
            waves_per_second,
            kept_waves: status.kept_waves,
            kept_rocks: status.kept_rocks,
            readers: status.readers,
            reader_lag: status.reader_lag,
            rule: status.rule.map(RuleView::from),
            freshness: status.freshness,
            stale: !live,
            detail: status.detail,
            since_ms: status.offline_since,
            current_at_ms: status.current_at,
            lag_ms: if live { Some(0) } else { behind },
        }
    }
}
