//! Peers and sources: where a state comes from, and how a peer is named.

use std::{fmt, str::FromStr};

use groundswell_core::{Name, Path, PathError, pasted};
use iroh::EndpointAddr;
use iroh_tickets::{Ticket as _, endpoint::EndpointTicket};
use serde::{Deserialize, Serialize};

use crate::error::TicketError;

/// The identity of a node: its public key. A connection proves it.
pub type PeerId = iroh::EndpointId;

/// Where a state comes from: peer, agent, path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The publishing node.
    pub peer: PeerId,
    /// The agent on that node.
    pub agent: Name,
    /// The path on that agent.
    pub path: Path,
}

impl Source {
    /// Checks the names and makes a source of them.
    pub fn new(peer: PeerId, agent: &str, path: &str) -> Result<Self, PathError> {
        Ok(Self { peer, agent: Name::new(agent)?, path: Path::new(path)? })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.peer, self.agent, self.path)
    }
}

/// A ticket: the id of a peer and the addresses where it can be reached, as one line of text.
/// It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTicket(pub(crate) EndpointAddr);

impl PeerTicket {
    /// The peer's id.
    pub fn peer(&self) -> PeerId {
        self.0.id
    }
}

impl fmt::Display for PeerTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&EndpointTicket::new(self.0.clone()).encode_string())
    }
}

/// A ticket, or the id of a peer alone (a ticket without addresses), in whatever form it was pasted: see [`pasted`].
impl FromStr for PeerTicket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let refuse = |reason: String| TicketError::new(text, &reason);
        let text = pasted(text);
        if text.starts_with(EndpointTicket::KIND) {
            let ticket = EndpointTicket::decode_string(&text).map_err(|error| refuse(error.to_string()))?;
            return Ok(Self(ticket.endpoint_addr().clone()));
        }
        let id: PeerId = text.parse().map_err(|error: iroh::KeyParsingError| refuse(error.to_string()))?;
        Ok(Self(EndpointAddr::new(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_however_it_was_pasted() {
        let id = iroh::SecretKey::from_bytes(&[7; 32]).public();
        let addr = EndpointAddr::new(id).with_ip_addr(([127, 0, 0, 1], 4433).into());
        let (ticket, alone) = (PeerTicket(addr), PeerTicket(EndpointAddr::new(id)));
        for (text, meant) in [(ticket.to_string(), &ticket), (id.to_string(), &alone)] {
            let (first, rest) = text.split_at(20);
            let forms = [
                text.clone(),
                format!("  {text}\r\n"),
                format!("\"{text}\""),
                format!("'{text}'"),
                format!("`{text}`"),
                format!("\u{201c}{text}\u{201d}."),
                format!("<{text}>"),
                format!("\u{feff}{first}\u{200b}{rest}\u{200e}"),
                format!("{first}\n    {rest}"),
                format!("{first}\u{a0}\r\n> {rest}").replace('>', " "),
                text.to_uppercase(),
            ];
            for form in forms {
                assert_eq!(form.parse::<PeerTicket>().as_ref().ok(), Some(meant), "{form:?}");
            }
        }
        assert_eq!(format!("0x{id}").parse::<PeerTicket>().unwrap(), alone);
    }

    #[test]
    fn what_is_no_ticket_is_refused_in_a_short_line() {
        let whole = PeerTicket(EndpointAddr::new(iroh::SecretKey::from_bytes(&[7; 32]).public())).to_string();
        for wrong in ["", "0x", "\u{1b}[2J\nforged", &whole[1..], &format!("{whole}x"), &"x".repeat(100_000)] {
            let error = wrong.parse::<PeerTicket>().unwrap_err().to_string();
            assert!(error.contains("neither a ticket nor a peer's id") && error.contains("copy"), "{error}");
            assert!(error.len() < 300 && !error.contains(groundswell_core::is_hidden), "{error}");
        }
    }
}
