//! `machines` and `release`: who is paired, and the end of a pairing.

use std::path::PathBuf;

use groundswell::Moment;

use super::answer;
use super::doctor::checks::bytes;
use crate::{
    args::Release,
    control::protocol::{Other, Pair, Released, Request},
    error::ToolError,
    output::Output,
    peer_name::shown,
};

/// Prints how a manager stands with its machines.
pub(super) async fn machines(dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    answer(&dir, &Request::Machines, output, |pair: Pair| {
        let id = pair.machine.clone().unwrap_or_default();
        format!("{id}  {}", in_words(&pair, now_ms()))
    })
    .await
}

/// Ends a pairing.
pub(super) async fn release(release: Release, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let request = Request::Release { machine: release.machine.map(|machine| machine.to_string()), wipe: release.wipe };
    answer(&dir, &request, output, |released: Released| {
        let wiped = if released.wiped { "; its keys and values are deleted" } else { "" };
        match &released.other {
            Some(Other::Machine(id)) => format!("the machine {id} is released; it is told when it is in reach"),
            Some(Other::Manager(id)) => {
                format!("this machine has left its manager {id}, and can be claimed again{wiped}")
            }
            None => format!("this machine has no manager{wiped}"),
        }
    })
    .await
}

/// How a pair stands, for people, and how many keys there are.
pub(super) fn in_words(pair: &Pair, now_ms: u64) -> String {
    format!("{}; {}", standing(pair, now_ms), keys(pair))
}

/// How a pair stands, for people.
pub(super) fn standing(pair: &Pair, now_ms: u64) -> String {
    let ago = |since: u64| format!("{} s", now_ms.saturating_sub(since) / 1_000);
    let mut words = match (&*pair.link, pair.offline_since_ms) {
        ("offline", Some(since)) => format!("offline for {}", ago(since)),
        ("not_known", _) => {
            let since = pair.not_known_since_ms.map(|since| format!(" for {}", ago(since))).unwrap_or_default();
            format!("the other side answers, and DOES NOT KNOW THIS PAIR{since}")
        }
        ("unclaimed", _) => return "not claimed".to_owned(),
        ("released", _) => "it has ended the pairing: what is here can be read, until `groundswell release`".to_owned(),
        (link, _) => link.to_owned(),
    };
    words += &match (pair.current, pair.current_at_ms) {
        (true, _) => ", current".to_owned(),
        (false, Some(at)) => format!(", current {} ago", ago(at)),
        (false, None) if pair.link == "released" => String::new(),
        (false, None) => ", not current since this node was started".to_owned(),
    };
    if let Some(since) = pair.undelivered_since_ms {
        words += &format!(", what was written here {} ago is NOT DELIVERED", ago(since));
    }
    if let Some(at) = pair.went_back_at_ms {
        let agreed = match pair.agreed {
            Some(true) => "has agreed with the other side since",
            _ => "delivers NOTHING BEFORE BOTH HAVE AGREED",
        };
        words += &format!(", this side WENT BACK IN TIME (noticed {} ago) and {agreed}", ago(at));
        if pair.overruled > 0 {
            words += &format!("; {} of its writes lost to later ones that came back", pair.overruled);
        }
    }
    if let Some(skew) = pair.skew_ms.filter(|skew| skew.abs() >= TOLD_SKEW_MS) {
        let (seconds, way) = (skew.abs() / 1_000, if skew > 0 { "ahead" } else { "behind" });
        words += &format!(", its clock {seconds} s {way}");
    }
    if pair.duplicate {
        words += ", and ANOTHER DEVICE HAS ITS IDENTITY";
    }
    if let Some(problem) = &pair.problem {
        words += &format!(", hindered: {problem}");
    }
    words
}

/// From this difference of the clocks on, people are told (2 s): less is the line's delay.
const TOLD_SKEW_MS: i64 = 2_000;

fn keys(pair: &Pair) -> String {
    let (used, most) = (bytes(pair.bytes_used), bytes(pair.bytes_limit));
    format!("{} of {} keys used, {used} of {most}", pair.keys_used, pair.keys_limit)
}

/// This device's clock, in milliseconds since 1970. The node derives each `…_ms` of an answer from how long ago it was,
/// when it answers: what is to say for how long takes this at once when the answer has come, so that nobody has set the
/// clock between the two.
pub(super) fn now_ms() -> u64 {
    Moment::now().unix_ms()
}

/// The line of a pair under the status: whom it is with, and how it stands.
pub(super) fn status_line(pair: &Pair, now_ms: u64) -> String {
    let other = pair.machine.as_deref().or(pair.manager.as_deref());
    match other {
        Some(id) => format!("{}  {}", shown(id), in_words(pair, now_ms)),
        None => in_words(pair, now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_sentence() {
        let pair = |change: fn(&mut Pair)| {
            let mut pair = Pair { link: "online".to_owned(), keys_limit: 9, ..Pair::default() };
            change(&mut pair);
            in_words(&pair, 10_000)
        };
        assert_eq!(pair(|pair| pair.current = true), "online, current; 0 of 9 keys used, 0 MiB of 0 MiB");
        let away = pair(|pair| {
            pair.link = "offline".to_owned();
            (pair.offline_since_ms, pair.current_at_ms) = (Some(7_000), Some(4_000));
            (pair.undelivered_since_ms, pair.skew_ms, pair.duplicate) = (Some(8_000), Some(-7_200_000), true);
        });
        assert_eq!(
            away,
            "offline for 3 s, current 6 s ago, what was written here 2 s ago is NOT DELIVERED, its clock 7200 s behind, and ANOTHER DEVICE HAS ITS IDENTITY; 0 of 9 keys used, 0 MiB of 0 MiB"
        );
        let went_back = pair(|pair| {
            pair.current = true;
            (pair.went_back_at_ms, pair.agreed, pair.overruled) = (Some(8_000), Some(false), 2);
        });
        let said = "online, current, this side WENT BACK IN TIME (noticed 2 s ago) and delivers NOTHING BEFORE BOTH HAVE AGREED; 2 of its writes lost to later ones that came back; 0 of 9 keys used, 0 MiB of 0 MiB";
        assert_eq!(went_back, said);
        assert_eq!(pair(|pair| pair.link = "unclaimed".to_owned()), "not claimed; 0 of 9 keys used, 0 MiB of 0 MiB");
        let not_known = pair(|pair| {
            pair.link = "not_known".to_owned();
            (pair.not_known_since_ms, pair.current_at_ms) = (Some(6_000), Some(4_000));
        });
        let said = "the other side answers, and DOES NOT KNOW THIS PAIR for 4 s, current 6 s ago; 0 of 9 keys used, 0 MiB of 0 MiB";
        assert_eq!(not_known, said);
        assert!(pair(|pair| pair.skew_ms = Some(40)).starts_with("online, not current since this node was started;"));
    }
}
