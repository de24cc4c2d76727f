//! `claim` and `claims`: pairing, with the person who looks at the PIN.

use std::{
    cell::Cell,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::status::Seen;
use crate::{
    args::{Claim, Claims},
    control::{
        client::{self, Answer},
        protocol::{Claimed, ClaimsLine, NoPair, NumberedAnswer, OneTimeTicket, Other, Request, ShownPin},
    },
    error::ToolError,
    log,
    output::Output,
    stop::Stop,
};

/// Claims a machine.
pub(super) async fn claim(claim: Claim, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    can_answer(&dir, claim.yes, "`claim`", "manager").await?;
    let request = Request::Claim { ticket: claim.ticket.to_string() };
    converse(&dir, &request, claim.yes, output).await
}

/// Waits for a claim.
pub(super) async fn claims(claims: Claims, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let before = can_answer(&dir, claims.yes, "`claims`", "machine").await?;
    // Failed claims are listed before opening the machine clears them.
    if !output.is_json()
        && let Some(by_whom) = before.claims.as_ref().and_then(ClaimsLine::by_whom)
    {
        output.line(format!("-- before this, {by_whom}")).await?;
    }
    // A script takes the first one, for better or worse; a person says no to a stranger's and waits for the manager's.
    let request = Request::Claims { ticket: claims.ticket, next: !claims.yes };
    converse(&dir, &request, claims.yes, output).await
}

/// Checks, before anything is said, that the node is in the role for this, and then that there is somebody to answer.
async fn can_answer(dir: &Path, yes: bool, what: &'static str, needed: &'static str) -> Result<Seen, ToolError> {
    let (_sender, mut answers) = client::ask(dir, &Request::Status).await?;
    let Some(line) = answers.next_line().await? else { return Err(ToolError::Lost) };
    let seen: Seen = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
    let role = match (&seen.manager, &seen.machines) {
        (Some(_), _) => "machine",
        (None, Some(_)) => "manager",
        (None, None) => "peer",
    };
    if role != needed {
        return Err(ToolError::OtherRole { what, needed, role });
    }
    if !yes && !io::stdin().is_terminal() {
        return Err(ToolError::NobodyToAsk);
    }
    Ok(seen)
}

/// A line of the node.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    NoPair(NoPair),
    Claimed(Claimed),
    Pin(ShownPin),
    Ticket(OneTimeTicket),
}

/// Shows the PIN, answers, and says what came of it. If this ends before it has answered, for whatever
/// reason, the node takes it for a no.
async fn converse(dir: &Path, request: &Request, yes: bool, output: &mut Output) -> Result<(), ToolError> {
    let mut stop = Stop::new()?;
    let stands = Stands::default();
    tokio::select! {
        done = talk(dir, request, yes, output, &stands) => done,
        () = stop.asked() => Err(ToolError::ClaimInterrupted(stands.interrupted(request))),
    }
}

/// How far this has come, for who interrupts it.
#[derive(Default)]
struct Stands {
    stage: Cell<Stage>,
    /// Until when the ticket with a one-time secret is good, if there is one.
    ticket_until: Cell<Option<Instant>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Stage {
    /// No claim has come, or no machine has answered.
    #[default]
    Waiting,
    /// One has come to nothing, and the next is waited for.
    WaitingAgain,
    /// The PIN is shown.
    Asked,
    /// The person has answered.
    Answered,
}

impl Stands {
    /// What is said at an interruption.
    fn interrupted(&self, request: &Request) -> String {
        let said = match self.stage.get() {
            Stage::Waiting if matches!(request, Request::Claim { .. }) => {
                "interrupted: the machine had not answered, and nothing is claimed"
            }
            Stage::Waiting => "interrupted: no claim had come",
            Stage::WaitingAgain => "interrupted: no further claim had come",
            Stage::Asked => "interrupted, and the claim answered with no: claim again when you are ready",
            // A pair uses the ticket up.
            Stage::Answered => {
                return "interrupted after the answer: `groundswell status` says whether the claim came to a pair"
                    .to_owned();
            }
        };
        let left = self.ticket_until.get().map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            Some(left) => {
                format!("{said}; the ticket stays good for {} s more, or until a newer one is made", left.as_secs())
            }
            None => said.to_owned(),
        }
    }
}

async fn talk(dir: &Path, request: &Request, yes: bool, output: &mut Output, stands: &Stands) -> Result<(), ToolError> {
    let (mut sender, mut answers) = client::ask(dir, request).await?;
    if matches!(request, Request::Claims { .. }) && !output.is_json() {
        output.line("-- waiting for a claim").await?;
        output.flush().await?;
    }
    loop {
        let line = match answers.next().await? {
            Answer::Line(line) => line,
            Answer::Done => return output.flush().await,
            Answer::Failed(failure) => return Err(ToolError::Claim(failure.error)),
        };
        match read(line)? {
            Line::NoPair(why) => {
                stands.stage.set(Stage::WaitingAgain);
                say_no_pair(line, &why, output).await?;
            }
            Line::Pin(shown) => {
                stands.stage.set(Stage::Asked);
                if output.is_json() {
                    output.json(line).await?;
                } else {
                    output.line(said(&shown)).await?;
                }
                output.flush().await?;
                let mut said = pin!(person());
                let same = if yes {
                    true
                } else {
                    tokio::select! {
                        said = &mut said => said?,
                        // It is over before anybody has answered here: who has answered elsewhere has made a pair.
                        answer = answers.next() => {
                            // What follows is no answer to the question, which stands there without an end.
                            log::prompt("\n");
                            match answer? {
                                Answer::Failed(failure) => return Err(ToolError::Claim(failure.error)),
                                Answer::Line(line) => match read(line)? {
                                    Line::NoPair(why) => {
                                        stands.stage.set(Stage::WaitingAgain);
                                        say_no_pair(line, &why, output).await?;
                                        // What the person types next may still be meant for this PIN, and is no answer to
                                        // another.
                                        log::prompt("Press Enter to go on to the next claim. ");
                                        said.await?;
                                        continue;
                                    }
                                    Line::Claimed(claimed) => {
                                        say_done(line, &claimed, output).await?;
                                        return output.flush().await;
                                    }
                                    Line::Pin(_) | Line::Ticket(_) => {
                                        return Err(ToolError::Answer("a claim while another is answered".to_owned()));
                                    }
                                },
                                Answer::Done => {
                                    return Err(ToolError::Answer("a claim that ends without a reason".to_owned()));
                                }
                            }
                        }
                    }
                };
                stands.stage.set(Stage::Answered);
                output.goes_on();
                let answer = match shown.claim {
                    Some(claim) => serde_json::to_string(&NumberedAnswer { claim, same }),
                    None => serde_json::to_string(&same),
                };
                let answer = answer.map_err(|error| ToolError::Answer(error.to_string()))?;
                // A node that has closed the connection has said why, which is read next.
                let _: io::Result<()> = async {
                    sender.write_all(answer.as_bytes()).await?;
                    sender.write_all(b"\n").await?;
                    sender.flush().await
                }
                .await;
                if same && !yes {
                    log::line("waiting for the answer at the other side");
                }
            }
            Line::Claimed(claimed) => say_done(line, &claimed, output).await?,
            Line::Ticket(OneTimeTicket { ticket, seconds }) => {
                stands.ticket_until.set(Instant::now().checked_add(Duration::from_secs(seconds)));
                if output.is_json() {
                    output.json(line).await?;
                } else {
                    let good =
                        format!("-- a ticket for one pair, good for {seconds} s, also after this command has ended");
                    output.lines([good.as_str(), "-- the manager claims this machine by", ticket.as_str()]).await?;
                }
                output.flush().await?;
            }
        }
    }
}

fn said(shown: &ShownPin) -> String {
    match &shown.other {
        Other::Machine(id) => format!("PIN {}: the machine {id} has to show the same", shown.pin),
        Other::Manager(id) => {
            format!("PIN {}: the manager {id}, who claims this machine, has to show the same", shown.pin)
        }
    }
}

fn read(line: &[u8]) -> Result<Line, ToolError> {
    serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))
}

async fn say_no_pair(line: &[u8], why: &NoPair, output: &mut Output) -> Result<(), ToolError> {
    if output.is_json() {
        output.json(line).await?;
    } else {
        output.line(format!("-- no pair: {}", why.no_pair)).await?;
        output.line("-- waiting for the next claim; Ctrl-C ends").await?;
    }
    output.flush().await
}

async fn say_done(line: &[u8], claimed: &Claimed, output: &mut Output) -> Result<(), ToolError> {
    match output.is_json() {
        true => output.json(line).await,
        false => output.line(done(&claimed.other)).await,
    }
}

fn done(other: &Other) -> String {
    match other {
        Other::Machine(id) => format!("the machine {id} is claimed"),
        Other::Manager(id) => format!("this machine is claimed by the manager {id}"),
    }
}

/// Asks the person. Anything but a yes is a no.
async fn person() -> Result<bool, ToolError> {
    log::prompt("Do both sides show the same PIN? [y/N] ");
    let mut line = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut line).await.map_err(ToolError::Input)?;
    Ok(is_yes(&line))
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_yes_is_a_no() {
        assert!([" y\n", "Yes\r\n", "YES"].iter().all(|line| is_yes(line)));
        assert!(!["", "\n", "n\n", "yess", "yes please", "ja"].iter().any(|line| is_yes(line)));
    }

    #[test]
    fn the_lines_of_a_claim_are_told_apart() {
        let line = |text: &str| serde_json::from_str::<Line>(text).unwrap();
        assert!(matches!(line(r#"{"claim":1,"no_pair":"why"}"#), Line::NoPair(NoPair { claim: 1, .. })));
        assert!(matches!(line(r#"{"pin":"042137","manager":"a","claim":1}"#), Line::Pin(pin) if pin.claim == Some(1)));
        assert!(matches!(line(r#"{"pin":"042137","machine":"a"}"#), Line::Pin(pin) if pin.pin == "042137"));
        assert!(matches!(line(r#"{"claimed":true,"manager":"a"}"#), Line::Claimed(_)));
    }
}
