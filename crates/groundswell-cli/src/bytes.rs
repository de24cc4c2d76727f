//! Bytes as people and programs write them: text where it is text, hexadecimal otherwise.

use groundswell::is_hidden;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that travel in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

/// How hexadecimal begins where people read it among text.
const HEX_BEGINS: &str = "hex:";

/// Bytes in hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

/// Bytes from hexadecimal, with digits of either case; `None` where it is none.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Text as it is, unless it is empty, has characters that are not seen, or looks like hexadecimal: then, as
/// where there is no text, the bytes are shown in hexadecimal. So no two keys look alike.
pub(crate) fn for_people(text: Option<&str>, hex: Option<&str>) -> String {
    match text {
        Some(text) if !text.is_empty() && !text.starts_with(HEX_BEGINS) && !text.contains(is_hidden) => text.to_owned(),
        Some(text) => format!("{HEX_BEGINS}{}", to_hex(text.as_bytes())),
        None => format!("{HEX_BEGINS}{}", hex.unwrap_or_default()),
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| de::Error::custom("it is not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_back_as_it_was() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&all)), Some(all));
        assert_eq!((to_hex(&[0, 0xfe]), from_hex("00Fe")), ("00fe".to_owned(), Some(vec![0, 0xfe])));
        for wrong in ["0", "0g", "+1", " 0", "é"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
        let text = serde_json::to_string(&Hex(vec![1, 255])).unwrap();
        assert_eq!((text.as_str(), serde_json::from_str::<Hex>(&text).unwrap()), ("\"01ff\"", Hex(vec![1, 255])));
    }

    #[test]
    fn no_two_keys_look_alike_to_people() {
        let keys: [&[u8]; 10] = [
            b"",
            b"a",
            b"hex:61",
            b"hex:",
            b"a\nb",
            b"\xff",
            b"hex:ff",
            b"\xc3\xbc",
            "a\u{200b}".as_bytes(),
            b"a\\u{200b}",
        ];
        let shown: Vec<String> = keys
            .iter()
            .map(|key| match std::str::from_utf8(key) {
                Ok(text) => for_people(Some(text), None),
                Err(_) => for_people(None, Some(&to_hex(key))),
            })
            .collect();
        assert_eq!(shown[1], "a");
        assert_eq!((&*shown[5], &*shown[7]), ("hex:ff", "ü"));
        let different: std::collections::BTreeSet<&String> = shown.iter().collect();
        assert_eq!(different.len(), keys.len(), "{shown:?}");
    }
}
