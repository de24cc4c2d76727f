//! What the doctor makes of what was found: pure functions, from facts to findings.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use groundswell::{Inspected, limits::MAX_SUBSCRIPTIONS};
use iroh_tickets::{Ticket as _, endpoint::EndpointTicket};

use super::{Condition, Finding};
use crate::{
    builtin::Builtin,
    commands::{
        machines::status_line,
        status::{Seen, SeenTide},
    },
    control::protocol::{ClaimsLine, Pair},
    peer_name::shown,
};

/// No clock is right that is before the first release, in seconds since 1970 (2025-01-01), or so far
/// ahead that its battery has failed upwards (2100-01-01).
const EARLIEST: u64 = 1_735_689_600;
const LATEST: u64 = 4_102_444_800;

/// How far the clock may be behind the newest file before it was set back: file systems round.
const SET_BACK: Duration = Duration::from_secs(60);

/// With less free space than this (64 MiB) writing is about to fail: the storage grows in steps.
const SCARCE_BYTES: u64 = 64 * 1024 * 1024;

/// Below this (1 GiB) there is no room for more than a few of the largest rocks.
const LITTLE_BYTES: u64 = 1024 * 1024 * 1024;

/// From this share of a limit on it is worth a word, in percent.
const NEARLY: u64 = 80;

/// The clock, and when the newest file in the data directory was written by it.
pub(super) fn clock(now: SystemTime, newest_write: Option<SystemTime>) -> Finding {
    let todo = "set it, by NTP for example: states do not depend on it, but every time that is shown does";
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let year = 1970 + seconds / 86_400 * 400 / 146_097;
    if !(EARLIEST..LATEST).contains(&seconds) {
        return Finding::problem("clock", format!("the year is {year}, by this device's clock"), todo);
    }
    let behind = newest_write.and_then(|write| write.duration_since(now).ok()).unwrap_or_default();
    if behind > SET_BACK {
        let said = format!("it was set back: the last write here is {} s ahead of it", behind.as_secs());
        return Finding::warn("clock", said, todo);
    }
    Finding::ok(
        "clock",
        format!("the year is {year}, and it was not set back; whether it is some seconds off can't be told"),
    )
}

/// The space that is free for this user.
pub(super) fn disk(free: u64) -> Finding {
    let said = format!("{} are free", bytes(free));
    let todo = "make room, or move the data directory to a larger disk: without room nothing can be given or followed";
    match free {
        ..SCARCE_BYTES => Finding::problem("disk", said, todo),
        SCARCE_BYTES..LITTLE_BYTES => Finding::warn("disk", said, todo),
        _ => Finding::ok("disk", said),
    }
}

pub(crate) fn bytes(count: u64) -> String {
    let mib = count / (1024 * 1024);
    if mib >= 10 * 1024 { format!("{} GiB", mib / 1024) } else { format!("{mib} MiB") }
}

/// A data directory that is open to us, since no node runs there.
pub(super) fn at_rest(inspected: &Inspected, start: &str) -> Vec<Finding> {
    let followed = inspected.stored.iter().filter(|one| one.source.is_some()).count();
    let published = inspected.stored.len() - followed;
    let mut findings = vec![Finding::ok("storage", format!("it opens; {published} published, {followed} followed"))];
    let unknown = inspected.stored.iter().filter(|one| Builtin::of_name(one.lake.as_str()).is_none());
    findings.extend(unknown.map(|one| {
        let said =
            format!("{} of agent {} is of lake {}, which this tool does not know", one.path, one.agent, one.lake);
        Finding::warn("paths", said, "run the program that has this lake")
    }));
    findings.extend(role(inspected));
    let id = match &inspected.id {
        Some(id) => format!("its id is {id}"),
        None => {
            let todo =
                "restore the file secret.key from a backup: else the node begins with another id, which no one knows";
            findings.push(Finding::problem("identity", "the key of the node is missing", todo));
            "without its key".to_owned()
        }
    };
    findings.push(Finding::warn("node", format!("no node runs here; {id}"), start));
    findings
}

/// Whose directory it is, if it is a machine's or a manager's.
fn role(inspected: &Inspected) -> Option<Finding> {
    let role = inspected.role?;
    Some(Finding::ok("role", format!("it is a {role}'s, and its keys and values can be read")))
}

/// A node that runs.
pub(super) fn running(condition: &Condition, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![storage(condition), Finding::ok("node", format!("{} runs", condition.status.id))];
    findings.extend(addresses(condition));
    findings.extend(peers(condition, now));
    findings.extend(pairs(&condition.status, now));
    findings.extend(condition.status.claims.as_ref().and_then(claims));
    findings.push(limits(condition));
    findings.extend(paths(condition));
    findings
}

/// A machine's pairing or a manager's, each, and how many keys were ever used.
fn pairs(status: &Seen, now: SystemTime) -> Vec<Finding> {
    let now_ms = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
    match (&status.manager, &status.machines) {
        (None, Some(machines)) if machines.is_empty() => {
            let todo = "`groundswell claim TICKET` claims one";
            vec![Finding::warn("pairing", "this manager has no machines", todo)]
        }
        (pair, machines) => {
            let pairs = pair.iter().chain(machines.iter().flatten());
            pairs.flat_map(|pair| [pairing(pair, now_ms), keys(pair), budget(pair)]).collect()
        }
    }
}

/// Somebody has claimed a machine in vain.
fn claims(claims: &ClaimsLine) -> Option<Finding> {
    let said = claims.by_whom()?;
    let todo = "if none of them was you, the machine's ticket is known to others: `groundswell claims --ticket` lets in \
                only who has its one-time secret; `groundswell claims` forgives them";
    let left = if claims.attempts_left == 0 { ", and no more are taken" } else { "" };
    Some(Finding::warn("claims", format!("{said}{left}"), todo))
}

fn pairing(pair: &Pair, now_ms: u64) -> Finding {
    let said = status_line(pair, now_ms);
    match &*pair.link {
        _ if pair.duplicate => {
            let todo = "a disk was copied: stop one of the two devices, and give it a new data directory";
            Finding::problem("pairing", said, todo)
        }
        _ if pair.problem.is_some() => Finding::warn(
            "pairing",
            said,
            "do what it says, on the side that it says it of; it is tried again by itself",
        ),
        "unclaimed" => {
            let todo = "`groundswell claims` here, and `groundswell claim TICKET` at the manager, if it is to have one";
            Finding::warn("pairing", said, todo)
        }
        "released" => {
            Finding::warn("pairing", said, "`groundswell release ID` deletes what is here; or claim it again")
        }
        "not_known" => {
            let todo = "start the other side with its own data directory, or restore that: it \
                        is found again by itself; if they are lost, claim again, or end the pairing here with \
                        `groundswell release`";
            Finding::problem("pairing", said, todo)
        }
        "online" | "offline" | "connecting" if pair.agreed == Some(false) => {
            let todo = "bring the two together: this side takes its own writes back from the other one, and nothing counts as \
                        delivered before. If no backup was restored here, look whether the disk or the directory was moved";
            Finding::warn("pairing", said, todo)
        }
        "online" if pair.undelivered_since_ms.is_some() => {
            let todo =
                "see whether the other side hangs, or the line between the two: it should have it within a second";
            Finding::warn("pairing", said, todo)
        }
        "online" => Finding::ok("pairing", said),
        _ => {
            let todo = "see that the other side is up, and that a network is between the two; if both sides have other addresses than when they were last in touch, claim the machine again with a new ticket of it (`groundswell status` there), which changes nothing else";
            Finding::warn("pairing", said, todo)
        }
    }
}

fn keys(pair: &Pair) -> Finding {
    let of = pair.machine.as_deref().map(|id| format!(" of {}", shown(id))).unwrap_or_default();
    let said = format!("{} of {} keys{of} were ever used", pair.keys_used, pair.keys_limit);
    let todo = "use the same keys again: one that was deleted counts for ever; or release the machine and begin anew";
    used("keys", said, todo, pair.keys_used as u64, pair.keys_limit as u64)
}

fn budget(pair: &Pair) -> Finding {
    let of = pair.machine.as_deref().map(|id| format!(" of {}", shown(id))).unwrap_or_default();
    let said = format!("the keys and values{of} take {} of {}", bytes(pair.bytes_used), bytes(pair.bytes_limit));
    let todo = "delete keys, or write smaller values; or raise the smaller one of the budgets of both sides \
                (`groundswell up --document-budget`)";
    used("budget", said, todo, pair.bytes_used, pair.bytes_limit)
}

/// What is nearly used up is to be seen before it is.
fn used(check: &'static str, said: String, todo: &str, used: u64, most: u64) -> Finding {
    match used {
        _ if used >= most => Finding::problem(check, said, todo),
        _ if u128::from(used) * 100 >= u128::from(most) * u128::from(NEARLY) => Finding::warn(check, said, todo),
        _ => Finding::ok(check, said),
    }
}

fn storage(condition: &Condition) -> Finding {
    let status = &condition.status;
    match status.metrics.commit_failures + status.metrics.key_commit_failures {
        0 => {
            let published = status.publications.iter().filter(|one| one.aeon.is_some()).count();
            let said = format!("it is open; {published} published, {} followed", status.replicas.len());
            Finding::ok("storage", said)
        }
        failures => {
            let said = format!("{failures} transactions failed since the node was started");
            Finding::problem("storage", said, "see the disk's space and health, and what the node's log says")
        }
    }
}

/// Where the node can be reached, and who helps others to find it.
fn addresses(condition: &Condition) -> Vec<Finding> {
    let Ok(ticket) = EndpointTicket::decode_string(&condition.status.ticket) else {
        return vec![Finding::problem("addresses", "the ticket can't be read", "use a tool and a node of one version")];
    };
    let at = ticket.endpoint_addr();
    let ips: Vec<_> = at.ip_addrs().collect();
    let relay = at.relay_urls().next();
    let listed = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let only_loopback = !ips.is_empty() && ips.iter().all(|addr| addr.ip().is_loopback());
    let offline = condition.started.offline;
    let addresses = if ips.is_empty() && relay.is_none() {
        let todo = "see that a network is there, and that `up --bind` names an address of this machine";
        Finding::problem("addresses", "the node has no address", todo)
    } else if only_loopback && relay.is_none() {
        let todo = "leave out `up --bind`, or bind an address that others reach, if they are to";
        Finding::warn("addresses", format!("{listed}: this machine alone can reach it"), todo)
    } else {
        Finding::ok("addresses", if listed.is_empty() { "only by its relay".to_owned() } else { listed })
    };
    let local = match condition.started.bind {
        Some(bind) if bind.ip().is_loopback() => "by tickets and by addresses of earlier connections",
        _ => "by tickets, by addresses of earlier connections, and on the local network by mDNS",
    };
    let look_up = match (offline, relay) {
        (true, _) => Finding::ok("look-up", format!("off (`up --offline`): peers are found {local}")),
        (false, Some(relay)) => Finding::ok("look-up", format!("public; the relay is {relay}")),
        (false, None) => {
            let todo = "see that UDP and HTTPS to the outside are let through; or start it with --offline";
            Finding::warn("look-up", format!("public, but no relay is reached (yet): peers are found {local}"), todo)
        }
    };
    vec![addresses, look_up]
}

/// The peers that are followed: those that can't be reached, each, or that all are.
fn peers(condition: &Condition, now: SystemTime) -> Vec<Finding> {
    let status = &condition.status;
    let mut followed: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for replica in status.replicas.iter().filter(|replica| replica.peer != status.id) {
        let since = followed.entry(&replica.peer).or_default();
        *since = match (*since, replica.offline_since_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    let count = followed.len();
    followed.retain(|peer, _| !status.peers.iter().any(|connected| connected == peer));
    if followed.is_empty() {
        return vec![Finding::ok("peers", format!("{count} followed, all in reach; {} connected", status.peers.len()))];
    }
    let away = followed.into_iter().map(|(peer, since)| {
        let since = since.map(|since| SystemTime::UNIX_EPOCH + Duration::from_millis(since));
        let ago = since.and_then(|since| now.duration_since(since).ok());
        let said = match ago {
            Some(ago) => format!("{} is out of reach for {} s", shown(peer), ago.as_secs()),
            None => format!("{} is not reached yet", shown(peer)),
        };
        let todo = "see that its node is up; if it has moved, `surf` with a new ticket of it; if it is gone, `quit`";
        Finding::warn("peers", said, todo)
    });
    away.collect()
}

fn limits(condition: &Condition) -> Finding {
    let (streams, sources) = (condition.status.streams, condition.status.metrics.replicas_now);
    let most = MAX_SUBSCRIPTIONS as u64;
    let said = format!("{sources} of {most} subscriptions, {streams} of {most} streams");
    let todo = "`quit` what is no longer wanted, and end commands that follow";
    match streams.max(sources) {
        used if used >= most => Finding::problem("limits", said, todo),
        used if used * 100 >= most * NEARLY => Finding::warn("limits", said, todo),
        _ => Finding::ok("limits", said),
    }
}

/// The paths that stand still, each, or that none does.
fn paths(condition: &Condition) -> Vec<Finding> {
    let mut findings = Vec::new();
    for still in &condition.standing_still {
        findings.push(match still.unknown_lake {
            true => Finding::warn("paths", &*still.said, "run the program that has this lake"),
            false => Finding::problem("paths", &*still.said, "do what it says, and start the node again"),
        });
    }
    findings.extend(condition.status.replicas.iter().filter_map(replica));
    if findings.is_empty() {
        findings.push(Finding::ok("paths", "none stands still"));
    }
    findings
}

fn replica(replica: &SeenTide) -> Option<Finding> {
    let detail = replica.detail.as_deref().unwrap_or("no reason");
    let said = |what: &str| format!("{} of {} {what}: {detail}", replica.path, shown(&replica.peer));
    match replica.freshness.as_str() {
        "refused" => Some(Finding::warn("paths", said("is refused"), "it begins by itself when both sides agree")),
        "unusable" => {
            let todo = "update the older side, and see this node's log; it is tried again by itself";
            Some(Finding::problem("paths", said("can't be used"), todo))
        }
        "diverged" => {
            let todo = "it is healed by itself; if it comes again, the lake's wash is not deterministic";
            Some(Finding::warn("paths", said("differs from its source"), todo))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn condition(replicas: &serde_json::Value, peers: &[&str], metrics: [u64; 3]) -> Condition {
        let ticket = "endpointaaaaaa";
        let [streams, replicas_now, commit_failures] = metrics;
        let metrics = serde_json::json!({
            "replicas_now": replicas_now, "commit_failures": commit_failures
        });
        let status = serde_json::json!({
            "id": "me", "ticket": ticket, "peers": peers, "publications": [], "replicas": replicas, "metrics": metrics,
            "streams": streams
        });
        let all =
            serde_json::json!({ "status": status, "started": {"offline": true, "bind": null}, "standing_still": [] });
        serde_json::from_value(all).unwrap()
    }

    fn replica_of(peer: &str, freshness: &str, offline_since_ms: Option<u64>) -> serde_json::Value {
        serde_json::json!({
            "peer": peer, "agent": "main", "path": "/a", "lake": "log", "aeon": 1, "kept_waves": 0, "kept_rocks": 1,
            "freshness": freshness, "detail": "why", "offline_since_ms": offline_since_ms
        })
    }

    #[test]
    fn a_clock_is_wrong_outside_of_its_century_or_when_it_was_set_back() {
        assert_eq!(clock(at(86_400), None).state, State::Problem);
        assert!(clock(at(86_400), None).said.contains("1970"));
        assert_eq!(clock(at(LATEST), None).state, State::Problem);
        let now = at(EARLIEST + 1_000);
        assert_eq!(clock(now, None).state, State::Ok);
        assert!(clock(now, None).said.contains("2025"));
        assert_eq!(clock(now, Some(now + SET_BACK)).state, State::Ok);
        let back = clock(now, Some(now + SET_BACK + Duration::from_secs(1)));
        assert_eq!((back.state, back.said.contains("61 s")), (State::Warn, true));
    }

    #[test]
    fn a_disk_is_judged_by_what_is_free() {
        let state = |free| disk(free).state;
        assert_eq!((state(SCARCE_BYTES - 1), state(SCARCE_BYTES)), (State::Problem, State::Warn));
        assert_eq!((state(LITTLE_BYTES - 1), state(LITTLE_BYTES)), (State::Warn, State::Ok));
        assert!(disk(123 << 30).said.starts_with("123 GiB"));
    }

    #[test]
    fn each_peer_out_of_reach_is_named_once() {
        let replicas = serde_json::json!([
            replica_of("near", "live", None),
            replica_of("far", "offline", Some(5_000)),
            replica_of("far", "offline", Some(3_000)),
        ]);
        let found = peers(&condition(&replicas, &["near"], [0; 3]), at(10));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].state, &*found[0].said), (State::Warn, "far is out of reach for 7 s"));
        let found = peers(&condition(&replicas, &["near", "far"], [0; 3]), at(10));
        assert_eq!((found.len(), found[0].state), (1, State::Ok));
    }

    #[test]
    fn limits_and_failures_are_told_before_and_when_they_are_met() {
        let most = MAX_SUBSCRIPTIONS as u64;
        let state = |streams, sources| limits(&condition(&serde_json::json!([]), &[], [streams, sources, 0])).state;
        assert_eq!((state(0, 0), state(most * NEARLY / 100 - 1, 0)), (State::Ok, State::Ok));
        assert_eq!((state(most * NEARLY / 100, 0), state(0, most)), (State::Warn, State::Problem));
        let mut failed = condition(&serde_json::json!([]), &[], [0, 0, 2]);
        assert_eq!(storage(&failed).state, State::Problem);
        failed.status.metrics.key_commit_failures = 3;
        assert!(storage(&failed).said.starts_with("5 transactions failed"), "of states and of keys");
    }

    #[test]
    fn a_pair_is_judged_by_its_link_and_its_keys_by_their_limit() {
        let with = |change: fn(&mut Pair)| {
            let mut pair =
                Pair { link: "online".to_owned(), current: true, keys_limit: 100, bytes_limit: 100, ..Pair::default() };
            change(&mut pair);
            let mut seen = condition(&serde_json::json!([]), &[], [0; 3]).status;
            seen.manager = Some(pair);
            let found = pairs(&seen, at(10));
            assert_eq!(found.iter().map(|one| one.check).collect::<Vec<_>>(), ["pairing", "keys", "budget"]);
            let states = [found[1].state, found[2].state];
            assert!(states[0] == State::Ok || states[1] == State::Ok, "one at a time: {found:?}");
            (found[0].state, if states[0] == State::Ok { states[1] } else { states[0] })
        };
        assert_eq!(with(|_| {}), (State::Ok, State::Ok));
        assert_eq!(with(|pair| pair.duplicate = true), (State::Problem, State::Ok));
        for (link, state) in [
            ("unclaimed", State::Warn),
            ("offline", State::Warn),
            ("released", State::Warn),
            ("connecting", State::Warn),
            ("not_known", State::Problem),
        ] {
            let mut seen = condition(&serde_json::json!([]), &[], [0; 3]).status;
            seen.machines =
                Some(vec![Pair { link: link.to_owned(), keys_limit: 100, bytes_limit: 100, ..Pair::default() }]);
            let found = &pairs(&seen, at(10))[0];
            assert_eq!(found.state, state, "{link}");
            let heals = found.todo.as_deref().is_some_and(|todo| todo.contains("again with a new ticket"));
            assert_eq!(heals, ["offline", "connecting"].contains(&link), "{link}: {found:?}");
        }
        assert_eq!(with(|pair| pair.keys_used = 79), (State::Ok, State::Ok));
        assert_eq!(with(|pair| pair.keys_used = 80), (State::Ok, State::Warn));
        assert_eq!(with(|pair| pair.keys_used = 100), (State::Ok, State::Problem));
        assert_eq!(with(|pair| pair.bytes_used = 79), (State::Ok, State::Ok));
        assert_eq!(with(|pair| pair.bytes_used = 80), (State::Ok, State::Warn));
        assert_eq!(with(|pair| pair.bytes_used = 100), (State::Ok, State::Problem));
        let mut seen = condition(&serde_json::json!([]), &[], [0; 3]).status;
        assert_eq!(pairs(&seen, at(10)), []);
        seen.machines = Some(Vec::new());
        assert_eq!(pairs(&seen, at(10))[0].state, State::Warn);
    }

    #[test]
    fn a_path_that_stands_still_is_told_with_its_reason() {
        let state = |freshness: &str| {
            let found = paths(&condition(&serde_json::json!([replica_of("p", freshness, None)]), &["p"], [0; 3]));
            assert_eq!(found.len(), 1);
            found[0].state
        };
        assert_eq!((state("live"), state("killed"), state("offline")), (State::Ok, State::Ok, State::Ok));
        assert_eq!(
            (state("refused"), state("unusable"), state("diverged")),
            (State::Warn, State::Problem, State::Warn)
        );
        let mut broken = condition(&serde_json::json!([]), &[], [0; 3]);
        broken.standing_still = serde_json::from_value(serde_json::json!([
            {"said": "/a stands still", "unknown_lake": false}, {"said": "/b is left", "unknown_lake": true}
        ]))
        .unwrap();
        let found: Vec<State> = paths(&broken).iter().map(|finding| finding.state).collect();
        assert_eq!(found, [State::Problem, State::Warn]);
    }
}
