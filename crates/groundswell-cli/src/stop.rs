//! The signals that ask the tool to stop.

use std::{pin::pin, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use crate::error::ToolError;

/// How long what is being written may still take when one of them has come: whoever reads gets whole
/// lines and the last word, and whoever does not holds up nobody.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// SIGINT and SIGTERM, heard from the moment that this is made.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// One has come, and nobody was told yet.
    came: bool,
}

impl Stop {
    pub(crate) fn new() -> Result<Self, ToolError> {
        let listen = |kind| signal(kind).map_err(ToolError::Runtime);
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, came: false })
    }

    /// Waits until one of them comes.
    pub(crate) async fn asked(&mut self) {
        if std::mem::take(&mut self.came) {
            return;
        }
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs something to its end. If one of them comes meanwhile, it has a second to get there; then
    /// [`Stop::asked`] returns at once, or nothing is returned here.
    pub(crate) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = self.asked() => {}
        }
        let done = timeout(LAST_WORDS, work).await.ok();
        self.came = done.is_some();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals of a test's own process: both kinds are heard by all tests, so that there is one test.
    #[tokio::test]
    async fn what_is_being_written_has_a_moment_and_the_end_is_not_forgotten() {
        let mut stop = Stop::new().unwrap();
        let mut too = signal(SignalKind::interrupt()).unwrap();
        let interrupt = || {
            let me = std::process::id().to_string();
            assert!(std::process::Command::new("kill").args(["-INT", &me]).status().unwrap().success());
        };
        assert_eq!(stop.unless(std::future::ready(1)).await, Some(1));
        interrupt();
        let slow = async {
            // It is not done yet when the signal comes, and is a moment later.
            too.recv().await;
            tokio::task::yield_now().await;
            2
        };
        assert_eq!(stop.unless(slow).await, Some(2));
        stop.asked().await;
        interrupt();
        assert_eq!(stop.unless(std::future::pending::<()>()).await, None);
    }
}
