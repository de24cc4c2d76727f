//! The lakes that the tool knows, by name, and what it has to know of each.

use std::fmt;

use clap::ValueEnum;
use groundswell::{
    Lake,
    lakes::{Json, JsonPatch, Log, Sum},
};
use groundswell_web::lakes::JsonLake;
use serde::{Deserialize, Serialize};

use crate::registry::{Table, Tables};

/// A lake by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Builtin {
    /// Lines, in order. A wave is one line.
    Log,
    /// A signed 64-bit sum. A wave is a number to add.
    Sum,
    /// A JSON document. A wave is a JSON Patch (RFC 6902).
    Json,
}

impl Builtin {
    /// The lake of this name, where the tool knows it.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [(Log::NAME, Self::Log), (Sum::NAME, Self::Sum), (Json::NAME, Self::Json)]
            .into_iter()
            .find_map(|(known, lake)| (known == name).then_some(lake))
    }

    /// The lake's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Log => Log::NAME,
            Self::Sum => Sum::NAME,
            Self::Json => Json::NAME,
        }
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Runs an expression with `$lake` standing for the type of a [`Builtin`]. It is the one place
/// where a name becomes a type.
macro_rules! for_lake {
    ($builtin:expr, $lake:ident => $run:expr) => {
        match $builtin {
            $crate::builtin::Builtin::Log => {
                type $lake = ::groundswell::lakes::Log;
                $run
            }
            $crate::builtin::Builtin::Sum => {
                type $lake = ::groundswell::lakes::Sum;
                $run
            }
            $crate::builtin::Builtin::Json => {
                type $lake = ::groundswell::lakes::Json;
                $run
            }
        }
    };
}
pub(crate) use for_lake;

/// What the tool needs of a lake beyond its JSON: its waves as they are written on the command line.
pub(crate) trait ToolLake: JsonLake {
    /// Which one it is.
    const BUILTIN: Builtin;

    /// Its table among the tables of all lakes.
    fn table(tables: &mut Tables) -> &mut Table<Self>;

    /// Parses a wave; or why it is none.
    fn parse_wave(text: &str) -> Result<Self::Wave, String>;
}

impl ToolLake for Log {
    const BUILTIN: Builtin = Builtin::Log;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.log
    }

    fn parse_wave(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl ToolLake for Sum {
    const BUILTIN: Builtin = Builtin::Sum;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.sum
    }

    fn parse_wave(text: &str) -> Result<i64, String> {
        let refused = |error| format!("{text:?} is no whole number of 64 bits ({error})");
        text.trim().parse().map_err(refused)
    }
}

impl ToolLake for Json {
    const BUILTIN: Builtin = Builtin::Json;

    fn table(tables: &mut Tables) -> &mut Table<Self> {
        &mut tables.json
    }

    fn parse_wave(text: &str) -> Result<JsonPatch, String> {
        let refused = |error| {
            format!(
                "it is no JSON Patch ({error}); one is [{{\"op\":\"add\",\"path\":\"\",\"value\":{{}}}}], for example"
            )
        };
        text.parse().map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_lake() {
        for lake in Builtin::value_variants() {
            assert_eq!(Builtin::of_name(lake.name()), Some(*lake));
            let bound = for_lake!(lake, L => L::BUILTIN);
            assert_eq!(bound, *lake);
            assert_eq!(serde_json::to_value(lake).unwrap(), lake.name());
        }
        assert_eq!(Builtin::of_name("guests"), None);
    }

    #[test]
    fn waves_are_parsed_as_they_are_written() {
        assert_eq!(Log::parse_wave(" -5 ").unwrap(), " -5 ");
        assert_eq!(Sum::parse_wave(" -5 ").unwrap(), -5);
        assert!(Sum::parse_wave("five").unwrap_err().contains("five"));
        assert!(Sum::parse_wave("9223372036854775808").is_err());
        let patch = Json::parse_wave(r#"[{"op":"add","path":"/a","value":1}]"#).unwrap();
        assert_eq!(Json::wave_json(&patch).unwrap().get(), r#"[{"op":"add","path":"/a","value":1}]"#);
        assert!(Json::parse_wave("{}").unwrap_err().contains("JSON Patch"));
    }
}
