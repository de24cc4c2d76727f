//! What a session does for a side that went back, this one or the other: see [`groundswell_core::kv::restored`].

use groundswell_core::kv::sync::EntryKey;

use super::{End, Session};
use crate::{
    kv::{
        keeper::Opened,
        sealed::Sealed,
        storage::{Mark, Row},
    },
    sync::lock,
};

impl Session {
    /// Notes that the other side is sent ours up to here, durably and before it is.
    pub(super) async fn is_sent(&self, counter: u64) -> Result<(), End> {
        if counter > self.document.sent() {
            let (number, author) = (self.identity.number, self.document.ours);
            let row = Row::Mark { number, author, mark: Mark::Sent, counter };
            self.kv.keeper.rows(vec![row]).await.map_err(|error| End::Failed(error.to_string()))?;
            self.document.is_sent(counter);
        }
        Ok(())
    }

    /// Looks at entries before they are stored. Those of ours are what the other side holds. Of the other ones, those that lose to an
    /// entry here of the same author are to be told of it: their author has lost that one.
    pub(super) async fn look_over(&self, opened: &[Opened]) -> Result<(), End> {
        let ours = self.document.ours;
        if let Some(returned) = &self.returned {
            let mut returned = lock(returned);
            let back = opened.iter().filter(|(entry, _)| entry.author == ours);
            back.for_each(|(entry, _)| returned.add(entry.key, entry.counter, entry.hash()));
        }
        let loses = |entry: &Opened| {
            let (author, envelope) = (entry.0.author, &entry.1);
            let winner = self.document.with_view(|view| view.winner(&envelope.space, &envelope.key));
            winner.is_some_and(|winner| (winner.stamp, winner.author) >= (envelope.stamp, author))
        };
        let losing = opened.iter().filter(|entry| entry.0.author != ours && loses(entry));
        let losing: Vec<Sealed> = losing.map(|(entry, _)| entry.clone()).collect();
        if losing.is_empty() {
            return Ok(());
        }
        let number = self.identity.number;
        let back = self.read(move |storage| {
            let keys: Vec<[u8; 32]> = losing.iter().map(|entry| entry.key).collect();
            let here = storage.entries(number, ours.other(), &keys)?;
            let ranks_above = |(entry, here): &(&Sealed, Option<Sealed>)| {
                here.as_ref().is_some_and(|here| here.rank().0 > entry.rank().0)
            };
            let back = losing.iter().zip(here).filter(ranks_above);
            Ok(back.map(|(entry, _)| (entry.author, entry.key)).collect::<Vec<EntryKey>>())
        });
        let back = back.await?;
        lock(&self.sync).send_back(back);
        Ok(())
    }
}
