//! `check_lake`: the lake laws, for users' own tests.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    encoding::{DecodeError, EncodeError, decode, encode},
    lake::{Lake, LakeId},
    limits::MAX_WAVE_BYTES,
    path::PathError,
};

/// How often an encoding is tried before it is taken for canonical when something else is wrong.
const ORDER_TRIES: usize = 64;

/// Which lake law is broken, and at which wave (counted from 1; 0 is the default rock).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LakeLawBroken {
    /// The lake's `NAME` is not a name.
    #[error("the lake's NAME cannot be used: {0}")]
    Name(PathError),
    /// A rock or wave does not encode.
    #[error("at wave {wave}: {error}")]
    Encode {
        /// At which wave.
        wave: usize,
        /// What encoding said.
        error: EncodeError,
    },
    /// A rock or wave encodes, and does not decode again.
    #[error("at wave {wave}: the {what} does not decode from its own encoding: {error}")]
    RoundTrip {
        /// At which wave.
        wave: usize,
        /// `rock` or `wave`.
        what: &'static str,
        /// What decoding said.
        error: DecodeError,
    },
    /// A wave is larger than a wave may be.
    #[error("wave {wave} has {bytes} bytes encoded: at most {MAX_WAVE_BYTES} are allowed")]
    WaveTooLarge {
        /// Which wave.
        wave: usize,
        /// Its size.
        bytes: usize,
    },
    /// Equal values encode differently.
    #[error(
        "at wave {wave}: a {what} that was decoded encodes to other bytes than it was decoded from: the encoding is not canonical (is there a hash map or a hash set in it? use BTreeMap or BTreeSet)"
    )]
    NotCanonical {
        /// At which wave.
        wave: usize,
        /// `rock` or `wave`.
        what: &'static str,
    },
    /// The same rock and wave gave two different rocks, or were accepted once and refused once.
    #[error(
        "wave {wave}: washed twice onto equal rocks, it gave different results: wash must depend on the rock and the wave alone"
    )]
    NotDeterministic {
        /// At which wave.
        wave: usize,
    },
    /// A refused wave changed the rock.
    #[error("wave {wave} was refused ({refusal}), and the rock changed all the same: check first, then change")]
    NotAllOrNothing {
        /// At which wave.
        wave: usize,
        /// What wash said.
        refusal: String,
    },
}

/// Washes a history of waves in several ways that must agree, and says which lake law
/// the lake breaks, if any. Feed it histories that a property-testing library generates,
/// with waves that are refused among them. The cost is a few encodings of the rock a wave.
///
/// See [`Lake`] for the laws and an example.
pub fn check_lake<L: Lake>(waves: impl IntoIterator<Item = L::Wave>) -> Result<(), LakeLawBroken> {
    LakeId::of::<L>().map_err(LakeLawBroken::Name)?;
    // One rock lives through the whole history, as a publisher's does; at each wave a second
    // one is made from its encoding, as after a restart, and a third likewise.
    let mut rock = L::Rock::default();
    let mut before = rock_bytes::<L>(&rock, 0)?;
    for (index, wave) in waves.into_iter().enumerate() {
        let number = index + 1;
        let wave_bytes = encode(&wave).map_err(|error| LakeLawBroken::Encode { wave: number, error })?;
        if wave_bytes.len() > MAX_WAVE_BYTES {
            return Err(LakeLawBroken::WaveTooLarge { wave: number, bytes: wave_bytes.len() });
        }
        let again: L::Wave =
            decode(&wave_bytes).map_err(|error| LakeLawBroken::RoundTrip { wave: number, what: "wave", error })?;
        if encode(&again).as_deref() != Ok(&wave_bytes[..]) {
            return Err(LakeLawBroken::NotCanonical { wave: number, what: "wave" });
        }
        let refusal = L::wash(&mut rock, &wave).err().map(|error| error.to_string());
        let after = rock_bytes::<L>(&rock, number)?;
        if let Some(refusal) = &refusal
            && after != before
        {
            return Err(LakeLawBroken::NotAllOrNothing { wave: number, refusal: refusal.clone() });
        }
        for _ in 0..2 {
            let mut other: L::Rock =
                decode(&before).map_err(|error| LakeLawBroken::RoundTrip { wave: index, what: "rock", error })?;
            let refused = L::wash(&mut other, &again).is_err();
            if refused != refusal.is_some() || rock_bytes::<L>(&other, number)? != after {
                // A hash map of two entries has one order in half of all tries. Where that is why the
                // results differ, it is what is said, and not that wash were to blame.
                for _ in 0..ORDER_TRIES {
                    rock_bytes::<L>(&rock, number)?;
                }
                return Err(LakeLawBroken::NotDeterministic { wave: number });
            }
        }
        before = after;
    }
    Ok(())
}

/// Encodes a rock, and sees that it decodes and encodes to the same bytes again.
fn rock_bytes<L: Lake>(rock: &L::Rock, wave: usize) -> Result<Vec<u8>, LakeLawBroken> {
    let bytes = encode(rock).map_err(|error| LakeLawBroken::Encode { wave, error })?;
    let again: L::Rock = decode(&bytes).map_err(|error| LakeLawBroken::RoundTrip { wave, what: "rock", error })?;
    if encode(&again).as_deref() == Ok(&bytes[..]) {
        Ok(bytes)
    } else {
        Err(LakeLawBroken::NotCanonical { wave, what: "rock" })
    }
}
