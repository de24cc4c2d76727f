//! `public`, `secret`, `allow` and `block`: who may read a path.

use std::path::PathBuf;

use super::answer;
use crate::{
    args::{Allow, Block, OwnPath, Public, Secret},
    control::protocol::{Change, PathAccess, Readers, Request},
    error::ToolError,
    output::Output,
    peer_name::PeerName,
};

pub(super) async fn public(public: Public, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    change(public.at, Change::Public, dir, output).await
}

pub(super) async fn secret(secret: Secret, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    change(secret.at, Change::Secret, dir, output).await
}

pub(super) async fn allow(allow: Allow, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    change(allow.at, Change::Allow(ids(&allow.peers)), dir, output).await
}

pub(super) async fn block(block: Block, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    change(block.at, Change::Block(ids(&block.peers)), dir, output).await
}

fn ids(peers: &[PeerName]) -> Vec<String> {
    peers.iter().map(PeerName::id).collect()
}

/// Asks for the change, and prints who may read the path now.
async fn change(at: OwnPath, change: Change, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let request = Request::Access { path: at.path, agent: at.agent, change };
    answer(&dir, &request, output, |now: PathAccess| format!("{} is {}", now.path, in_words(&now.access))).await
}

/// Who may read a path, for people.
pub(super) fn in_words(access: &Readers) -> String {
    match access {
        Readers::Word(word) => word.clone(),
        Readers::Peers(peers) => format!("open to {}", peers.join(", ")),
    }
}
