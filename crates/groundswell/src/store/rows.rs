//! The rows that are more than bytes. Their encoding is postcard; a golden file holds each.

use std::fmt;

use groundswell_core::{Cursor, Epoch, LakeId, Name, Path, Rule};
use serde::{Deserialize, Serialize};

use crate::source::Source;

/// Which tide it is: an agent's own path, or the replica of a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum TideKey {
    Publication { agent: Name, path: Path },
    Replica(Source),
}

impl TideKey {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Publication { path, .. } | Self::Replica(Source { path, .. }) => path,
        }
    }
}

impl fmt::Display for TideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publication { agent, path } => write!(f, "{agent}{path}"),
            Self::Replica(source) => source.fmt(f),
        }
    }
}

/// What is stored of a tide beside its waves and rocks. Its newest aeon is that of its newest
/// wave or rock, so that giving a wave changes no row but the wave's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TideRow {
    pub(crate) key: TideKey,
    pub(crate) lake: LakeId,
    pub(crate) epoch: Epoch,
    pub(crate) rule: Rule,
}

/// An agent's handler failed on a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fail {
    /// Which state it was.
    pub(crate) at: Cursor,
    /// What the handler said.
    pub(crate) reason: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fmt::Write as _, fs, path::PathBuf};

    use groundswell_core::{
        Access, Digest, Frequency, Tombstone,
        encoding::{decode, encode},
        tide::RockInfo,
    };
    use iroh::EndpointAddr;

    use super::*;
    use crate::{
        ids::{Done, WriteId},
        source::PeerId,
    };

    /// Compares an encoded row with its golden file; UPDATE_GOLDEN=1 writes the file anew.
    pub(crate) fn golden<T: Serialize + for<'de> Deserialize<'de> + PartialEq + fmt::Debug>(name: &str, row: &T) {
        let bytes = encode(row).unwrap();
        assert_eq!(decode::<T>(&bytes).unwrap(), *row, "{name}");
        let mut text = format!("# {row:?}\n");
        for line in bytes.chunks(32) {
            line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
            text.push('\n');
        }
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/rows/{name}.golden"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, expected, "the bytes of {name} changed: a new storage format? (UPDATE_GOLDEN=1 writes it)");
    }

    #[test]
    fn rows_are_what_they_were() {
        let peer: PeerId = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let source = Source::new(peer, "main", "/log/today").unwrap();
        let lake = LakeId { name: Name::new("log").unwrap(), version: 3 };
        let epoch = Epoch([7; 16]);
        let publication = TideRow {
            key: TideKey::Publication { agent: Name::new("main").unwrap(), path: "/log/today".parse().unwrap() },
            lake: lake.clone(),
            epoch,
            rule: Rule::default(),
        };
        golden("tide_publication", &publication);
        let frequency = Frequency::Every(300.try_into().unwrap());
        let rule = Rule { frequency, horizon: None };
        golden("tide_replica", &TideRow { key: TideKey::Replica(source.clone()), lake: lake.clone(), epoch, rule });
        golden("rock", &RockInfo { bytes: 100_000, digest: Digest([9; 32]) });
        golden("wanted_key", &(Name::new("main").unwrap(), source.clone()));
        let at = Cursor { epoch, aeon: groundswell_core::Aeon(7) };
        golden("access_key", &(Name::new("main").unwrap(), "/log/today".parse::<Path>().unwrap()));
        golden("access_public", &Access::<PeerId>::Public);
        golden("access_only", &Access::Only([peer].into()));
        golden("tombstone_key", &TideKey::Replica(source.clone()));
        golden("tombstone", &Tombstone { at, rule });
        golden("fail_key", &(Name::new("main").unwrap(), source));
        golden("fail", &Fail { at, reason: "it broke".to_owned() });
        golden("wanted_lake", &lake);
        let id = WriteId::new("sale-0000000017").unwrap();
        golden("id_key", &(Name::new("main").unwrap(), id));
        golden("id", &Done { digest: Digest([9; 32]), result: groundswell_core::Aeon(300) });
        let addr = EndpointAddr::new(peer).with_ip_addr("192.0.2.1:4433".parse().unwrap());
        let seen = 1_700_000_000u64;
        golden("peer", &(addr.with_relay_url("https://relay.example".parse().unwrap()), seen));
    }
}
