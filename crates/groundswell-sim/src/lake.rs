//! The lake of the simulated world: the order of waves matters in it, and some are refused.

use groundswell_core::{Digest, Lake, LakeId, encoding::encode};
use serde::{Deserialize, Serialize};

use crate::checkers::{Broken, Law};

/// The most bytes of text in a rock: a little more than three chunks.
const MAX_TEXT_BYTES: usize = 200 * 1024;

/// A text that grows, and a number that depends on every wave so far and on their order.
pub(crate) struct Ledger;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Rock {
    pub(crate) waves: u64,
    pub(crate) chain: u64,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wave {
    /// Whether the text is begun anew.
    pub(crate) clear: bool,
    pub(crate) text: String,
}

impl Lake for Ledger {
    const NAME: &'static str = "ledger";
    type Rock = Rock;
    type Wave = Wave;
    type Error = &'static str;

    fn wash(rock: &mut Rock, wave: &Wave) -> Result<(), &'static str> {
        if wave.text.is_empty() {
            return Err("nothing to write");
        }
        if !wave.clear && rock.text.len() + wave.text.len() > MAX_TEXT_BYTES {
            return Err("the ledger is full");
        }
        if wave.clear {
            rock.text.clear();
        }
        rock.text.push_str(&wave.text);
        rock.waves += 1;
        for byte in wave.text.bytes() {
            rock.chain = rock.chain.rotate_left(5).wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
        }
        Ok(())
    }
}

/// The lake's id, or that of a version that no publisher has.
pub(crate) fn id(other: bool) -> Result<LakeId, Broken> {
    let id = LakeId::of::<Ledger>().map_err(|error| Law::Protocol.broken(error.to_string()))?;
    Ok(LakeId { version: id.version + u32::from(other), ..id })
}

/// The encoding of a rock.
pub(crate) fn rock_bytes(rock: &Rock) -> Result<Vec<u8>, Broken> {
    encode(rock).map_err(|error| Law::Storage.broken(error.to_string()))
}

/// The digest of a rock.
pub(crate) fn digest(rock: &Rock) -> Result<Digest, Broken> {
    Ok(Digest::of(&rock_bytes(rock)?))
}
