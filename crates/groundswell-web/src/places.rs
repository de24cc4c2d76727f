//! Where a stream of many topics stands: the cursors of all of them, as the id of an event.
//!
//! The id is `m1.` and, in base64url, 4 bytes of the part's name, 16 of the epoch and the aeon as a varint for each. It
//! says everything: no server remembers a stream, and any topic of it can go on in another.

use data_encoding::BASE64URL_NOPAD;
use groundswell::{Aeon, Cursor, Epoch};

use crate::{events::Part, limits::MAX_PLACES};

const PREFIX: &str = "m1.";

/// The cursors of a stream, the one that moved last at the end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Places(Vec<(Part, Cursor)>);

impl Places {
    /// What an id says; nothing where it is none.
    pub(crate) fn parse(id: &str) -> Self {
        let bytes = id.strip_prefix(PREFIX).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let mut places = Self::default();
        let mut rest = bytes.as_deref().unwrap_or_default();
        while let Some((place, after)) = take(rest).filter(|_| places.0.len() < MAX_PLACES) {
            places.0.push(place);
            rest = after;
        }
        places
    }

    /// Notes where a part stands now. Beyond [`MAX_PLACES`] the part that moved longest ago is left out.
    pub(crate) fn moved(&mut self, part: Part, cursor: Cursor) {
        self.0.retain(|(known, _)| *known != part);
        if self.0.len() >= MAX_PLACES {
            self.0.remove(0);
        }
        self.0.push((part, cursor));
    }

    pub(crate) fn get(&self, part: Part) -> Option<Cursor> {
        self.0.iter().find(|(known, _)| *known == part).map(|(_, cursor)| *cursor)
    }

    pub(crate) fn id(&self) -> String {
        let mut bytes = Vec::with_capacity(self.0.len() * 24);
        for (part, cursor) in &self.0 {
            bytes.extend_from_slice(&part.0);
            bytes.extend_from_slice(&cursor.epoch.0);
            let mut aeon = cursor.aeon.0;
            while aeon >= 0x80 {
                bytes.push((aeon as u8 & 0x7f) | 0x80);
                aeon >>= 7;
            }
            bytes.push(aeon as u8);
        }
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

fn take(bytes: &[u8]) -> Option<((Part, Cursor), &[u8])> {
    let (part, rest) = bytes.split_first_chunk::<4>()?;
    let (epoch, mut rest) = rest.split_first_chunk::<16>()?;
    let mut aeon = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        aeon |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(((Part(*part), Cursor { epoch: Epoch(*epoch), aeon: Aeon(aeon) }), rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u32, aeon: u64) -> (Part, Cursor) {
        (Part(number.to_be_bytes()), Cursor { epoch: Epoch([number as u8; 16]), aeon: Aeon(aeon) })
    }

    #[test]
    fn an_id_says_where_every_part_stands() {
        let mut places = Places::default();
        for (number, aeon) in [(1, 0), (2, 127), (3, 128), (4, u64::MAX), (1, 9)] {
            let (part, cursor) = place(number, aeon);
            places.moved(part, cursor);
        }
        let again = Places::parse(&places.id());
        assert_eq!(again, places);
        assert_eq!(again.get(place(1, 0).0), Some(place(1, 9).1), "the later one");
        assert_eq!(again.get(place(5, 0).0), None);
    }

    #[test]
    fn what_is_no_id_says_nothing() {
        let id = {
            let mut one = Places::default();
            let (part, cursor) = place(1, 300);
            one.moved(part, cursor);
            one.id()
        };
        for broken in ["", "m1.", "m1.!", "m2.AAAA", "7", &id[..id.len() - 2]] {
            assert_eq!(Places::parse(broken), Places::default(), "{broken}");
        }
    }

    #[test]
    fn an_id_has_less_than_four_kibibytes() {
        let mut places = Places::default();
        for number in 0..=MAX_PLACES as u32 {
            let (part, cursor) = place(number, u64::MAX);
            places.moved(part, cursor);
        }
        assert!(places.id().len() < 4096, "{}", places.id().len());
        assert_eq!(places.get(place(0, 0).0), None, "the one that moved longest ago is left out");
        assert!(places.get(place(1, 0).0).is_some());
        assert_eq!(Places::parse(&places.id()), places);
    }
}
