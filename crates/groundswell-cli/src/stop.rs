//! The signals that ask the tool to stop, and those that must not.

use std::{fs, pin::pin, sync::OnceLock, time::Duration};

use nix::sys::signal::SigSet;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use crate::error::ToolError;

/// How long what is being written may still take when one of them has come: whoever reads gets whole
/// lines and the last word, and whoever does not holds up nobody.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Blocks signals in this thread, in those that it starts and in programs that it starts: they would end or stop the program
/// where a write fails or is made in the background.
///
/// - SIGXFSZ: a file has reached the limit of its size. Without the signal, the write fails (setrlimit(2)).
/// - SIGTTOU: a program in the background writes to a terminal that is set to `tostop`. Without it, the text is written.
pub(crate) fn block(signals: &[nix::sys::signal::Signal]) {
    let set: SigSet = signals.iter().copied().collect();
    // It fails for no signal that there is.
    let _ = set.thread_block();
}

/// SIGINT, SIGTERM and SIGHUP, heard from the moment that this is made.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal was closed. Not heard where it was ignored when the program began, as `nohup` has it.
    hangup: Option<Signal>,
    /// One has come, and nobody was told yet.
    came: bool,
}

impl Stop {
    pub(crate) fn new() -> Result<Self, ToolError> {
        let listen = |kind| signal(kind).map_err(ToolError::Runtime);
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let hangup = (!ignores_hangup()).then(|| listen(SignalKind::hangup())).transpose()?;
        Ok(Self { interrupt, terminate, hangup, came: false })
    }

    /// Waits until one of them comes.
    pub(crate) async fn asked(&mut self) {
        if std::mem::take(&mut self.came) {
            return;
        }
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
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
        let done = last_words(work).await;
        self.came = done.is_some();
        done
    }
}

/// What is still said when one of them has come; nothing is returned where nobody reads it within a second.
pub(crate) async fn last_words<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(LAST_WORDS, work).await.ok()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was told to ignore SIGHUP, as far as that can be known: Linux says so in a file; elsewhere a
/// program without unsafe code cannot ask, and hears it.
fn ignores_hangup() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // Asked once, since to hear a signal is to ignore it no more.
    *ANSWER.get_or_init(|| fs::read_to_string("/proc/self/status").is_ok_and(|status| ignored_in(&status)))
}

fn ignored_in(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1, which is SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_hangup_is_ignored_is_read_from_the_mask() {
        assert!(ignored_in("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignored_in("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignored_in("SigIgn:\n") && !ignored_in(""));
    }

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
