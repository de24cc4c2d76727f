//! Lake `log`: lines, in order.

use std::convert::Infallible;

use groundswell_core::Lake;

/// Lake `log`: a rock is the lines so far, in the order in which they were given; a wave is the
/// next line. Nothing is refused.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Lake for Log {
    const NAME: &'static str = "log";
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;

    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
}
