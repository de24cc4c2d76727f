//! Lake `sum`: a signed 64-bit sum.

use groundswell_core::Lake;

/// Lake `sum`: a rock is a signed 64-bit number, 0 at first; a wave is added to it. A wave that
/// would overflow is refused.
#[derive(Debug, Clone, Copy)]
pub struct Sum;

/// The sum would leave the range of a signed 64-bit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{sum} + {wave} is beyond a signed 64-bit number")]
pub struct SumOverflow {
    sum: i64,
    wave: i64,
}

impl Lake for Sum {
    const NAME: &'static str = "sum";
    type Rock = i64;
    type Wave = i64;
    type Error = SumOverflow;

    fn wash(rock: &mut i64, wave: &i64) -> Result<(), SumOverflow> {
        *rock = rock.checked_add(*wave).ok_or(SumOverflow { sum: *rock, wave: *wave })?;
        Ok(())
    }
}
