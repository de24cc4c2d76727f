//! Peers and sources: where a state comes from, and how a peer is named.

use std::{fmt, str::FromStr};

use groundswell_core::{Name, Path, PathError, is_hidden, kv::pairing::ClaimSecret, pasted};
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
        if let Some((ticket, secret)) = text.split_once('.')
            && secret.bytes().all(|byte| byte.is_ascii_hexdigit())
            && ticket.parse::<Self>().is_ok()
        {
            return Err(TicketError::with_secret(ticket));
        }
        if text.starts_with(EndpointTicket::KIND) {
            let ticket = EndpointTicket::decode_string(&text).map_err(|error| refuse(error.to_string()))?;
            // Decoding ignores what follows the addresses.
            if !ticket.encode_string().eq_ignore_ascii_case(&text) {
                return Err(refuse("something follows its end".to_owned()));
            }
            return Ok(Self(ticket.endpoint_addr().clone()));
        }
        let id: PeerId = text.parse().map_err(|error: iroh::KeyParsingError| refuse(error.to_string()))?;
        Ok(Self(EndpointAddr::new(id)))
    }
}

/// A machine's ticket for a manager, with a one-time secret if it has one: a ticket, or a ticket, a dot, and the secret in
/// hexadecimal digits. With a secret it admits a claim at a machine that is not open for others; keep it as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimTicket {
    pub(crate) ticket: PeerTicket,
    pub(crate) secret: Option<ClaimSecret>,
}

impl ClaimTicket {
    /// The machine's id.
    pub fn peer(&self) -> PeerId {
        self.ticket.peer()
    }

    /// Whether it has a one-time secret.
    pub fn has_secret(&self) -> bool {
        self.secret.is_some()
    }
}

impl From<PeerTicket> for ClaimTicket {
    fn from(ticket: PeerTicket) -> Self {
        Self { ticket, secret: None }
    }
}

impl From<&PeerTicket> for ClaimTicket {
    fn from(ticket: &PeerTicket) -> Self {
        ticket.clone().into()
    }
}

impl From<&Self> for ClaimTicket {
    fn from(ticket: &Self) -> Self {
        ticket.clone()
    }
}

impl fmt::Display for ClaimTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ticket)?;
        if let Some(secret) = &self.secret {
            f.write_str(".")?;
            secret.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

/// What is wrong with a ticket that ends where its secret begins.
const SECRET_CUT: &str = "its one-time secret, which follows the dot at its end, is cut off";

/// Whether a text that was pasted ends in a dot of its own, and not in one of a sentence around it.
fn ends_in_dot(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && !is_hidden(*c)).collect();
    let text = text.trim_end_matches(|c: char| c != '.' && !c.is_alphanumeric());
    let before = text.trim_end_matches('.');
    before.len() < text.len() && before.ends_with(char::is_alphanumeric)
}

impl FromStr for ClaimTicket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let ends_in_dot = ends_in_dot(text);
        let text = pasted(text);
        let Some((ticket, secret)) = text.split_once('.') else {
            let ticket: PeerTicket = text.parse()?;
            // Without its secret it would be another ticket.
            return if ends_in_dot { Err(TicketError::new(&text, SECRET_CUT)) } else { Ok(ticket.into()) };
        };
        // The text of the error has no secret in it.
        let refuse = || TicketError::new(ticket, "its one-time secret is not 32 hexadecimal digits");
        let (pairs, []) = secret.as_bytes().as_chunks::<2>() else { return Err(refuse()) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        let secret = bytes.and_then(|bytes| bytes.try_into().ok()).map(ClaimSecret).ok_or_else(refuse)?;
        Ok(Self { ticket: ticket.parse()?, secret: Some(secret) })
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

    #[test]
    fn a_ticket_with_a_secret_is_read_as_it_was_written_and_a_cut_one_says_so() {
        let ticket = PeerTicket(EndpointAddr::new(iroh::SecretKey::from_bytes(&[7; 32]).public()));
        let plain = ClaimTicket::from(&ticket);
        assert_eq!(plain.to_string(), ticket.to_string());
        assert_eq!(plain.to_string().parse::<ClaimTicket>().unwrap(), plain);
        let secret = ClaimTicket { ticket: ticket.clone(), secret: Some(ClaimSecret([0xa5; 16])) };
        let text = secret.to_string();
        assert_eq!(text, format!("{ticket}.{}", "a5".repeat(16)));
        for written in [text.clone(), format!("{ticket}.{}", "A5".repeat(16)), format!(" \"{text}\".\n")] {
            assert_eq!(written.parse::<ClaimTicket>().unwrap(), secret);
        }
        for wrong in ["a5", &"a5".repeat(17), &"g5".repeat(16), &"é5".repeat(10), &"a5".repeat(15), ".a5"] {
            let error = format!("{ticket}.{wrong}").parse::<ClaimTicket>().unwrap_err();
            assert!(error.to_string().contains("one-time secret"), "{error}");
        }
        // Cut at the dot it would be a ticket without a secret. A dot behind a quotation mark is of the text around it.
        for wrong in [format!("{ticket}."), format!(" '{ticket}.'\n"), format!("{ticket}.\u{200b}")] {
            let error = wrong.parse::<ClaimTicket>().unwrap_err().to_string();
            assert!(error.contains("one-time secret") && error.contains("cut off"), "{error}");
        }
        assert_eq!(format!("\"{ticket}\".").parse::<ClaimTicket>().unwrap(), plain);
        // Where a peer is named, it is said what it is.
        for named in [text.clone(), text[..text.len() - 1].to_owned()] {
            let error = named.parse::<PeerTicket>().unwrap_err().to_string();
            assert!(error.contains("is a ticket with a one-time secret") && !error.contains("a5a5a5"), "{error}");
        }
        assert!(!text[..text.len() - 1].parse::<ClaimTicket>().unwrap_err().to_string().contains("a5a5a5"));
        assert!(!format!("{secret:?}").contains("165"), "a secret is not printed");
    }
}
