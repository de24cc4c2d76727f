//! What can be written to have something done to whole paths, and to have everything checked.

use clap::Args as Arguments;
use groundswell::{Frequency, Name, Path};

use crate::{control::protocol::Horizon, peer_name::PeerName};

/// A path that this node publishes.
#[derive(Debug, Arguments)]
pub(crate) struct OwnPath {
    /// The path, such as /log/today.
    pub(crate) path: Path,

    /// The agent that publishes it.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,
}

/// A path that this node publishes or, with a peer, follows.
#[derive(Debug, Arguments)]
pub(crate) struct Retained {
    #[command(flatten)]
    pub(crate) at: OwnPath,

    /// Of what is followed here of this peer, by ticket or id, instead of what this node publishes.
    #[arg(long, value_name = "PEER")]
    pub(crate) source: Option<PeerName>,
}

/// Open a path to everyone. It may be said before anything is given there.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell public /log/today
  groundswell public /log/today --json     {\"path\":\"/log/today\",\"access\":\"public\"}")]
pub(crate) struct Public {
    #[command(flatten)]
    pub(crate) at: OwnPath,
}

/// Close a path to everyone but the agents of this node. It may be said before anything is given there.
///
/// Who reads it now is cut off at once, and keeps what was received.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell secret /log/today
  groundswell secret /log/today --json     {\"path\":\"/log/today\",\"access\":\"secret\"}")]
pub(crate) struct Secret {
    #[command(flatten)]
    pub(crate) at: OwnPath,
}

/// Allow peers to read a path that is not public, beside those that may already.
///
/// Those that wait for it begin by themselves.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell secret /log/today && groundswell allow /log/today TICKET
  groundswell allow /log/today PEER-ID PEER-ID --json     {\"path\":\"/log/today\",\"access\":[\"4f…\",\"9a…\"]}")]
pub(crate) struct Allow {
    #[command(flatten)]
    pub(crate) at: OwnPath,

    /// The peers, by ticket or id.
    #[arg(required = true, value_name = "PEER")]
    pub(crate) peers: Vec<PeerName>,
}

/// Allow peers no longer to read a path.
///
/// They are cut off at once, and keep what they have received. On a public path it is an error: a
/// peer can always come with another identity.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell block /log/today PEER-ID
  groundswell secret /log/today     to block everyone")]
pub(crate) struct Block {
    #[command(flatten)]
    pub(crate) at: OwnPath,

    /// The peers, by ticket or id.
    #[arg(required = true, value_name = "PEER")]
    pub(crate) peers: Vec<PeerName>,
}

/// Print what is kept of a path's history, or change it.
///
/// What is not named stays as it is. What the rule no longer keeps goes at once; whatever it says, any
/// reader can still be brought up to date.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell rule /log/today
  groundswell rule /log/today --horizon 100
  groundswell rule /log/today --frequency 50 --horizon none
  groundswell rule /log/today --frequency auto --source PEER-ID     of what is kept of it here")]
pub(crate) struct Rule {
    #[command(flatten)]
    pub(crate) of: Retained,

    /// When a rock (the whole state) is kept: when the waves outweigh the last one, after every N
    /// waves, or never.
    #[arg(long, value_name = "auto|N|never", value_parser = frequency)]
    pub(crate) frequency: Option<Frequency>,

    /// How many waves back are kept at least; none keeps all since the oldest rock.
    #[arg(long, value_name = "N|none", value_parser = horizon)]
    pub(crate) horizon: Option<Horizon>,
}

/// Keep the state of a path as it is now, and drop its history.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell wipe /log/today
  groundswell wipe /log/today --source PEER-ID     what is kept of it here")]
pub(crate) struct Wipe {
    #[command(flatten)]
    pub(crate) of: Retained,
}

/// End a path, and drop its state and history. Who follows it is told, and keeps what was received.
///
/// A `give` that is under way there ends with an error. A later one begins the path again, from the
/// default state, as any lake.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kill /log/today")]
pub(crate) struct Kill {
    #[command(flatten)]
    pub(crate) at: OwnPath,
}

/// Begin a path with the state and the history of another one of this node. They go apart from there.
///
/// It keeps the other's rule, and who may read it, unless that was said of the new path before.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell fork /log/today /log/draft
  groundswell fork /log/today /log/draft --json     {\"aeon\":12}")]
pub(crate) struct Fork {
    /// The path whose state is taken.
    pub(crate) from: Path,

    /// The new path. Nothing may be published there.
    pub(crate) to: Path,

    /// The agent that publishes both.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,
}

/// Begin a path with the state and the history of one that is followed here, in reach or not.
///
/// It is secret, whatever the other is, until it is made public or peers are allowed.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell copy PEER-ID /log/today /log/copy
  groundswell copy PEER-ID /log/today /log/copy && groundswell public /log/copy")]
pub(crate) struct Copy {
    /// The node that is followed, by ticket or id.
    #[arg(value_name = "PEER")]
    pub(crate) peer: PeerName,

    /// The path on that node.
    pub(crate) from: Path,

    /// The new path here. Nothing may be published there.
    pub(crate) to: Path,

    /// The agent that publishes it there.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,

    /// The agent that publishes the copy here.
    #[arg(long = "as", value_name = "NAME", default_value = "main")]
    pub(crate) publisher: Name,
}

/// Check clock, storage, disk, addresses, look-up, peers, limits and paths; say what to do.
///
/// It works while the node runs and while it does not. It ends with status 1 if there is any problem;
/// a warning is none.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell doctor
  groundswell doctor --data ./shop --json     {\"check\":\"disk\",\"state\":\"ok\",\"said\":\"…\"}")]
pub(crate) struct Doctor {}

fn frequency(text: &str) -> Result<Frequency, String> {
    match text {
        "auto" => Ok(Frequency::Automatic),
        "never" => Ok(Frequency::Never),
        number => number
            .parse()
            .map(Frequency::Every)
            .map_err(|_| "it is `auto`, `never`, or a number of waves, at least 1".to_owned()),
    }
}

fn horizon(text: &str) -> Result<Horizon, String> {
    match text {
        "none" => Ok(Horizon::Unlimited),
        number => number.parse().map(Horizon::Waves).map_err(|_| "it is `none` or a number of waves".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_in_words_and_numbers() {
        assert_eq!(frequency("auto"), Ok(Frequency::Automatic));
        assert_eq!(frequency("never"), Ok(Frequency::Never));
        assert_eq!(frequency("7"), Ok(Frequency::Every(7.try_into().unwrap())));
        assert_eq!((horizon("none"), horizon("0")), (Ok(Horizon::Unlimited), Ok(Horizon::Waves(0))));
        for wrong in ["0", "-1", "", "always", "1.5"] {
            assert!(frequency(wrong).is_err(), "{wrong}");
        }
        for wrong in ["never", "-1", ""] {
            assert!(horizon(wrong).is_err(), "{wrong}");
        }
    }
}
