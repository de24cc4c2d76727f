//! How a peer is named on the command line: a ticket, an id, or the beginning of an id that the
//! node knows.

use std::{fmt, str::FromStr};

use groundswell::{PeerTicket, TicketError, pasted};

/// How many characters of an id are shown to people. So many are enough to name a peer again.
pub(crate) const SHOWN_ID_CHARACTERS: usize = 10;

/// How many characters the beginning of an id has at least: fewer are rather a slip than a name.
const MIN_SHORT_CHARACTERS: usize = 6;

/// How many a whole one has.
const WHOLE_ID_CHARACTERS: usize = 64;

/// A peer, as it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerName {
    /// A ticket, or a whole id.
    Ticket(PeerTicket),
    /// The beginning of an id.
    Short(String),
}

impl PeerName {
    /// The same without addresses, where all that matters is who it is.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Ticket(ticket) => ticket.peer().to_string(),
            Self::Short(short) => short.clone(),
        }
    }
}

/// Why a name of a peer is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerNameError {
    #[error(transparent)]
    Neither(#[from] TicketError),
    #[error("{0:?} is too short for an id: give {MIN_SHORT_CHARACTERS} of its characters at least")]
    TooShort(String),
}

impl FromStr for PeerName {
    type Err = PeerNameError;
    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let short = pasted(text);
        match text.parse() {
            Ok(ticket) => Ok(Self::Ticket(ticket)),
            Err(error) if short.is_empty() || short.len() >= WHOLE_ID_CHARACTERS || !short.bytes().all(hex) => {
                Err(error.into())
            }
            Err(_) if short.len() < MIN_SHORT_CHARACTERS => Err(PeerNameError::TooShort(short)),
            Err(_) => Ok(Self::Short(short)),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(ticket) => ticket.fmt(f),
            Self::Short(short) => f.write_str(short),
        }
    }
}

/// An id as people are shown it.
pub(crate) fn shown(id: &str) -> &str {
    id.get(..SHOWN_ID_CHARACTERS).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";

    #[test]
    fn an_id_may_be_short_but_not_too_short_nor_anything_else() {
        let whole: PeerName = ID.parse().unwrap();
        assert!(matches!(whole, PeerName::Ticket(_)));
        assert_eq!(whole.id(), ID);
        let short: PeerName = shown(ID).parse().unwrap();
        assert_eq!(short, PeerName::Short("ae58ff8833".to_owned()));
        assert_eq!(short.to_string().parse::<PeerName>().unwrap(), short);
        let error = "ae58f".parse::<PeerName>().unwrap_err().to_string();
        assert_eq!(error, "\"ae58f\" is too short for an id: give 6 of its characters at least");
        for pasted in ["AE58FF8833", " ae58ff\n8833 ", "0xae58ff8833", "'ae58ff8833'"] {
            assert_eq!(pasted.parse::<PeerName>().unwrap(), short, "{pasted}");
        }
        for wrong in ["someone", "", &format!("{ID}0")] {
            let error = wrong.parse::<PeerName>().unwrap_err().to_string();
            assert!(error.contains("neither a ticket nor a peer's id"), "{error}");
        }
    }
}
