//! `give`: publishes waves.

use std::{io, path::PathBuf, pin::pin};

use groundswell::Path;
use tokio::io::AsyncWriteExt;

use crate::{
    args::Give,
    control::{
        client::{self, Answer, Sender},
        protocol::{Failure, Given, MAX_WAVE_TEXT_BYTES, Request},
    },
    error::ToolError,
    lines::{LineError, Lines},
    output::Output,
};

/// Stands for the waves on standard input.
const STANDARD_INPUT: &str = "-";

/// Sends the waves, and prints the aeon that they lead to.
pub(super) async fn run(give: Give, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (path, lake, agent, id) = (give.path.clone(), give.kind.lake, give.agent.clone(), give.once.id.clone());
    let request = Request::Give { path, lake, agent, id };
    let (sender, mut answers) = client::ask(&dir, &request).await?;
    output.goes_on();
    // Acknowledgements are read while waves are sent: neither side waits for the other to finish.
    let mut sending = pin!(send_waves(&give.waves, sender));
    let mut sent = None;
    let mut newest = None;
    loop {
        let answer = tokio::select! {
            result = &mut sending, if sent.is_none() => {
                sent = Some(result);
                continue;
            }
            answer = answers.next() => answer?,
        };
        match answer {
            Answer::Line(line) => {
                let given: Given =
                    serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
                newest = Some(given.aeon);
                if give.acks {
                    say(&give, given.aeon, output).await?;
                }
            }
            Answer::Done => break,
            Answer::Failed(failure) => return Err(refused(&give, failure)),
        }
    }
    if let (Some(aeon), false) = (newest, give.acks) {
        say(&give, aeon, output).await?;
    }
    sent.unwrap_or(Ok(()))
}

async fn say(give: &Give, aeon: u64, output: &mut Output) -> Result<(), ToolError> {
    if output.is_json() {
        output.object(&Given { aeon }).await?;
    } else {
        output.line(said(&give.path, aeon, give.once.id.is_some())).await?;
    }
    output.flush().await
}

/// A write with an id may have been done before, which its answer does not tell, and the path have gone on since.
fn said(path: &Path, aeon: u64, with_id: bool) -> String {
    if with_id { format!("with this id: {path} went to aeon {aeon}") } else { format!("{path} is at aeon {aeon}") }
}

fn refused(give: &Give, failure: Failure) -> ToolError {
    let Some(number) = failure.wave.filter(|_| failure.outcome.is_none()) else { return failure.into_error() };
    // Where all waves are lines of standard input, a line is what can be looked up.
    let what = if give.waves == [STANDARD_INPUT] { "line" } else { "wave" };
    let given = match number {
        _ if give.once.id.is_some() => "nothing was given".to_owned(),
        0 | 1 => "nothing was given".to_owned(),
        2 => "the one before it is given".to_owned(),
        _ => format!("the {} before it are given", number - 1),
    };
    ToolError::WaveRefused { what, number, reason: failure.error, given }
}

/// Sends the waves, and says that they were all, even where standard input can't be read to its end:
/// what was sent is then given, and the error is told.
async fn send_waves(waves: &[String], mut sender: Sender) -> Result<(), ToolError> {
    let mut result = Ok(());
    for wave in waves {
        let sent = if wave == STANDARD_INPUT { send_input(&mut sender).await } else { send(&mut sender, wave).await };
        if sent.is_err() {
            result = sent;
            break;
        }
    }
    // A node that has closed the connection has said why, which is read elsewhere.
    let _: io::Result<()> = sender.shutdown().await;
    result
}

async fn send_input(sender: &mut Sender) -> Result<(), ToolError> {
    let mut lines = Lines::of_text(tokio::io::stdin());
    let mut number = 0_u64;
    let invalid = |number, reason: &str| {
        let reason = format!("line {number} {reason}; those before it are given");
        ToolError::Input(io::Error::new(io::ErrorKind::InvalidData, reason))
    };
    loop {
        number += 1;
        match lines.next(MAX_WAVE_TEXT_BYTES).await {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => {
                let wave = std::str::from_utf8(line).map_err(|_| invalid(number, "is not UTF-8"))?;
                send(sender, wave).await?;
            }
            Err(LineError::Io(error)) => return Err(ToolError::Input(error)),
            Err(LineError::TooLong(most)) => return Err(invalid(number, &format!("has more than {most} bytes"))),
        }
        if !lines.has_next() {
            let _: io::Result<()> = sender.flush().await;
        }
    }
}

/// Sends one wave. That the node takes no more is no error here: its answer says why.
async fn send(sender: &mut Sender, wave: &str) -> Result<(), ToolError> {
    let mut line = serde_json::to_vec(wave).map_err(|error| ToolError::Answer(error.to_string()))?;
    line.push(b'\n');
    let _: io::Result<()> = sender.write_all(&line).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_write_with_an_id_it_is_not_said_where_the_path_is_now() {
        let path: Path = "/till".parse().unwrap();
        assert_eq!(said(&path, 6, false), "/till is at aeon 6");
        assert_eq!(said(&path, 1, true), "with this id: /till went to aeon 1");
    }
}
