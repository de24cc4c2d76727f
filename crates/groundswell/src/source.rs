//! Peers and sources: where a state comes from, and how a peer is named.

use std::{fmt, str::FromStr};

use groundswell_core::{Name, Path, PathError};
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

/// A ticket, or the id of a peer alone (a ticket without addresses).
impl FromStr for PeerTicket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let refuse = |reason: String| TicketError { text: text.to_owned(), reason };
        if text.starts_with(EndpointTicket::KIND) {
            let ticket = EndpointTicket::decode_string(text).map_err(|error| refuse(error.to_string()))?;
            return Ok(Self(ticket.endpoint_addr().clone()));
        }
        let id: PeerId = text.parse().map_err(|error: iroh::KeyParsingError| refuse(error.to_string()))?;
        Ok(Self(EndpointAddr::new(id)))
    }
}
