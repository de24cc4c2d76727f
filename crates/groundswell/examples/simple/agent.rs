//! The example agent of the prototype of solid-state subscriptions: its lakes, its paths and its pokes,
//! each a line of text. docs/sss.md shows it beside the prototype's.

use std::{num::NonZeroU64, sync::Arc};

use groundswell::{
    Frequency, Freshness, HandlerError, Node, OnRock, PeerId, Program, Publications, Rule, Source, Subscriptions,
    Surfed,
    lakes::{Log, Sum},
};

/// Where what the agent says goes, a line a call.
pub(crate) type Say = Arc<dyn Fn(String) + Send + Sync>;

/// What it publishes and follows. The paths of both ways need not be the same, only overlap. Nothing else
/// is kept here: states, rules, access and subscriptions are the node's, over restarts too.
pub(crate) struct Simple {
    node: Node,
    pub(crate) sub_log: Subscriptions<Log>,
    pub(crate) sub_sum: Subscriptions<Sum>,
    pub(crate) pub_log: Publications<Log>,
    pub(crate) other_log: Publications<Log>,
    pub(crate) pub_sum: Publications<Sum>,
    _program: Program,
}

impl Simple {
    pub(crate) async fn start(node: Node, say: Say) -> Result<Self, HandlerError> {
        let agent = node.agent("simple")?;
        let sub_log = agent.subscriptions::<Log>("/log").await?;
        let sub_sum = agent.subscriptions::<Sum>("/sum/*").await?;
        let pub_log = agent.publications::<Log>("/log/*").await?;
        let other_log = agent.publications::<Log>("/other-log").await?;
        let pub_sum = agent.publications::<Sum>("/sum/foo").await?;
        let _program = agent.program(OnRocks(say)).handles(&sub_log).handles(&sub_sum).start();
        Ok(Self { node, sub_log, sub_sum, pub_log, other_log, pub_sum, _program })
    }

    /// Does what a line says. A peer is a ticket, or the id of one that is known; a horizon is a number
    /// of waves or `none`; a frequency is a number of waves, and 0 makes no rocks.
    pub(crate) async fn poke(&self, line: &str) -> Result<(), HandlerError> {
        let (agent, log, sum) = (self.pub_log.agent(), "/log", "/sum/foo");
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["add", wave] => self.pub_sum.give(sum, wave.parse()?).await.map(drop)?,
            ["log", "/other-log", ref words @ ..] => {
                self.other_log.give("/other-log", words.join(" ")).await.map(drop)?;
            }
            ["log", path, ref words @ ..] => self.pub_log.give(path, words.join(" ")).await.map(drop)?,
            ["surf-log", peer] => self.sub_log.surf(self.source(peer, log).await?).await.map(drop)?,
            ["surf-sum", peer, path] => self.sub_sum.surf(self.source(peer, path).await?).await.map(drop)?,
            ["quit-log", peer] => self.sub_log.quit(&self.source(peer, log).await?).await?,
            ["quit-sum", peer, path] => self.sub_sum.quit(&self.source(peer, path).await?).await?,
            ["allow-log", ref ids @ ..] => agent.allow(log, peers(ids)?).await.map(drop)?,
            ["allow-sum", ref ids @ ..] => agent.allow(sum, peers(ids)?).await.map(drop)?,
            ["block-log", ref ids @ ..] => agent.block(log, peers(ids)?).await.map(drop)?,
            ["block-sum", ref ids @ ..] => agent.block(sum, peers(ids)?).await.map(drop)?,
            ["public-log"] => agent.public(log).await.map(drop)?,
            ["public-sum"] => agent.public(sum).await.map(drop)?,
            ["secret-log"] => agent.secret(log).await.map(drop)?,
            ["secret-sum"] => agent.secret(sum).await.map(drop)?,
            ["kill-log"] => agent.kill(log).await?,
            ["kill-sum"] => agent.kill(sum).await?,
            ["fork-log", from, to] => self.pub_log.fork(from, to).await.map(drop)?,
            ["copy-log", to] => self.pub_log.copy(&Source::new(self.node.id(), "simple", log)?, to).await.map(drop)?,
            ["rule-log", path, horizon, frequency] => agent.rule(path, rule(horizon, frequency)?).await?,
            ["rule-sum", horizon, frequency] => agent.rule(sum, rule(horizon, frequency)?).await?,
            ["wipe-log", path] => agent.wipe(path).await?,
            ["wipe-sum"] => agent.wipe(sum).await?,
            _ => return Err(format!("no such poke, or not with these words: {line}").into()),
        }
        Ok(())
    }

    /// All states that the agent knows of, as the prototype prints them before each poke.
    pub(crate) async fn read(&self) -> String {
        let published = (self.pub_log.rocks().await, self.other_log.rocks().await, self.pub_sum.rocks().await);
        let followed = (self.sub_log.rocks().await, self.sub_sum.rocks().await);
        let flags: Vec<_> = self.pub_log.agent().followed().into_values().map(|at| (at.stale(), at.fail)).collect();
        format!("published: {published:?}\nfollowed: {followed:?}\nstale and failed: {flags:?}")
    }

    async fn source(&self, peer: &str, path: &str) -> Result<Source, HandlerError> {
        Ok(Source::new(self.node.add_peer(&peer.parse()?).await?, "simple", path)?)
    }
}

fn peers(ids: &[&str]) -> Result<Vec<PeerId>, HandlerError> {
    Ok(ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?)
}

fn rule(horizon: &str, frequency: &str) -> Result<Rule, HandlerError> {
    let horizon = if horizon == "none" { None } else { Some(horizon.parse()?) };
    let frequency = NonZeroU64::new(frequency.parse()?).map_or(Frequency::Never, Frequency::Every);
    Ok(Rule { frequency, horizon })
}

/// What the agent does when a state that it follows has changed.
struct OnRocks(Say);

impl OnRocks {
    fn surf_fail(&self, source: &Source, freshness: &Freshness) {
        if *freshness == Freshness::NotAvailable {
            (self.0)(format!("not allowed to surf on {source}, or nothing is there yet"));
        }
    }
}

impl OnRock<Log> for OnRocks {
    async fn on_rock(&mut self, log: Surfed<Log>) -> Result<(), HandlerError> {
        let Some(last) = log.rock().last() else { return Ok(()) };
        (self.0)(format!("last message from {} on {} is {last}", log.source.agent, log.source.peer));
        if last == "crash" { Err("the last message was crash".into()) } else { Ok(()) }
    }

    fn on_freshness(&mut self, source: &Source, freshness: &Freshness) {
        self.surf_fail(source, freshness);
    }
}

impl OnRock<Sum> for OnRocks {
    async fn on_rock(&mut self, sum: Surfed<Sum>) -> Result<(), HandlerError> {
        if *sum.rock() == 42 {
            (self.0)(format!("sum from {} on {} is 42", sum.source.agent, sum.source.peer));
        }
        Ok(())
    }

    fn on_freshness(&mut self, source: &Source, freshness: &Freshness) {
        self.surf_fail(source, freshness);
    }
}
