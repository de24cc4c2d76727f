//! Standard error: the log, and what commands say there. All of it goes through one bounded queue to a thread that
//! writes it, so that a reader who has gone, a full disk or a terminal that stands still holds up nobody: what cannot
//! be written is dropped and counted. Nothing else writes there.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::HashMap,
    io::{self, ErrorKind, Write},
    panic::PanicHookInfo,
    sync::{
        OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use groundswell::visible;
use nix::sys::signal::Signal;
use serde::Serialize;
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    layer::{Context, Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::{output::shorten, stop};

/// How many lines wait for the thread that writes them: a burst is kept, and a reader who stands still costs memory that
/// is bounded. Each is as long as [`MAX_LINE_CHARACTERS`] allows, a few hundred bytes as a rule.
const QUEUE_LINES: usize = 512;

/// The longest line, in characters, before any of them is made visible: what is longer is cut.
const MAX_LINE_CHARACTERS: usize = 4_096;

/// How long the end of the program waits until what was said is written (1 s).
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How soon a standard error that cannot take more at the moment is tried again (10 ms).
const WRITE_AGAIN: Duration = Duration::from_millis(10);

/// How many warnings or errors of one kind (of one place in the code) are logged one after another; from then on one in
/// [`KIND_PERIOD`], with how many were left out. A disk that is full fails each write, and says nothing new by that.
const KIND_BURST: u32 = 10;
const KIND_PERIOD: Duration = Duration::from_secs(1);

/// What is logged unless the environment says otherwise: Groundswell's own words. What the network
/// library complains of at this level is mostly that a peer has gone or that we end.
const DEFAULT_LOG: &str = "groundswell=warn";

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The way to standard error.
struct Queue {
    sender: SyncSender<Entry>,
    /// How many lines were dropped and not yet told of.
    dropped: AtomicU64,
}

enum Entry {
    Text(String),
    /// Everything before it is written, or dropped, when the sender is dropped.
    Flush(#[expect(dead_code)] SyncSender<()>),
}

/// Writes what was said, at the end of the program.
pub(crate) struct Flush(());

/// Starts the thread that writes to standard error, and lets the log, and what panics say, go there.
pub(crate) fn start() -> Flush {
    let (sender, entries) = sync_channel(QUEUE_LINES);
    let _ = QUEUE.set(Queue { sender, dropped: AtomicU64::new(0) });
    let writing = move || {
        stop::block(&[Signal::SIGTTOU]);
        let dropped = QUEUE.get().map(|queue| &queue.dropped);
        let nobody = AtomicU64::new(0);
        write_entries(io::stderr(), &entries, dropped.unwrap_or(&nobody));
    };
    // Without it, as where there are too many threads, the queue is full soon, and everything is dropped.
    let _ = thread::Builder::new().name("groundswell-log".to_owned()).spawn(writing);
    std::panic::set_hook(Box::new(panicked));
    let from_env = ["GROUNDSWELL_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::try_new(from_env.as_deref().unwrap_or(DEFAULT_LOG)).unwrap_or_else(|error| {
        line(&format!("warning: GROUNDSWELL_LOG or RUST_LOG can't be read ({error}): it is {DEFAULT_LOG}"));
        EnvFilter::new(DEFAULT_LOG)
    });
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_ansi(false).with_writer(|| Lines);
    tracing_subscriber::registry().with(filter).with(lines.with_filter(Limited::default())).init();
    Flush(())
}

/// Says a line. Whatever is in it stays one line, and nothing of it acts on the terminal. It never waits.
pub(crate) fn line(text: &str) {
    push(format!("{}\n", seen(text)));
}

/// Says an object. The texts in it have passed [`seen`].
pub(crate) fn object(object: &impl Serialize) {
    // What is said there are numbers and texts, which have JSON.
    push(format!("{}\n", serde_json::to_string(object).unwrap_or_default()));
}

/// A text as it is said: through the gate, and no longer than a line may be.
pub(crate) fn seen(text: &str) -> String {
    visible(&shorten(text, MAX_LINE_CHARACTERS)).into_owned()
}

/// Asks the person something: a text of this program's own, whose line does not end.
pub(crate) fn prompt(text: &'static str) {
    push(text.to_owned());
}

fn push(text: String) {
    let Some(queue) = QUEUE.get() else { return };
    if queue.sender.try_send(Entry::Text(text)).is_err() {
        queue.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let Some(queue) = QUEUE.get() else { return };
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let (done, written) = sync_channel(0);
        let mut flush = Entry::Flush(done);
        while let Err(TrySendError::Full(again)) = queue.sender.try_send(flush) {
            if Instant::now() >= deadline {
                return;
            }
            flush = again;
            thread::sleep(WRITE_AGAIN);
        }
        // It ends with an error when the other half is dropped, which is what is waited for.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes what comes, as long as any comes. What cannot be written is counted, and told when something can.
fn write_entries(out: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut writer = Writer { out, cut: false };
    for entry in entries {
        let lost = dropped.swap(0, Ordering::Relaxed);
        let told = format!("{lost} lines were dropped here: they came too fast, or could not be written\n");
        let mut left = if lost == 0 || writer.write(&told) { 0 } else { lost };
        if let Entry::Text(text) = entry
            && !writer.write(&text)
        {
            left += 1;
        }
        dropped.fetch_add(left, Ordering::Relaxed);
    }
}

struct Writer<W> {
    out: W,
    /// Whether a line stands there without its end.
    cut: bool,
}

impl<W: Write> Writer<W> {
    /// Writes a text, and waits until it is taken; false where it is not to be had.
    fn write(&mut self, text: &str) -> bool {
        let end = if self.cut { "\n" } else { "" };
        let text = format!("{end}{text}");
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(written @ 1..) => {
                    rest = &rest[written..];
                    self.cut = true;
                }
                // Somebody else who has it, too, has made it so that it does not wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(WRITE_AGAIN),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return false,
            }
        }
        self.cut = false;
        true
    }
}

/// Where the log's formatter writes: each event comes as one piece.
struct Lines;

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        line(text.strip_suffix('\n').unwrap_or(&text));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the standard library says of a panic, but by the queue: its own words could wait for ever.
fn panicked(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let at = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    let said = info.payload_as_str().unwrap_or("no message");
    line(&format!("thread '{}' panicked{at}: {said}", thread.name().unwrap_or("<unnamed>")));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        trace.to_string().lines().for_each(line);
    }
}

/// Lets no place in the code fill the log with its warnings.
#[derive(Default)]
struct Limited(std::sync::Mutex<HashMap<Identifier, Kind>>);

/// The warnings of one place.
#[derive(Debug, Default)]
struct Kind {
    /// How many may come at once still.
    spent: u32,
    since: Option<Instant>,
    left_out: u64,
}

impl Kind {
    /// Whether one more may come now; and how many did not since the last that did.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let periods = now.saturating_duration_since(since).as_nanos() / KIND_PERIOD.as_nanos();
        let earned = u32::try_from(periods).unwrap_or(u32::MAX);
        if earned > 0 {
            self.spent = self.spent.saturating_sub(earned);
            self.since = Some(now);
        }
        if self.spent >= KIND_BURST {
            self.left_out += 1;
            return None;
        }
        self.spent += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<S: Subscriber> Filter<S> for Limited {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        // Who asks for more than warnings wants to see each.
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = kinds.entry(event.metadata().callsite()).or_default().admit(Instant::now());
        drop(kinds);
        match admitted {
            Some(0) => true,
            Some(more) => {
                line(&format!("{more} lines like the next one were left out"));
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is still to happen, one step per write, and what was written.
    type Script = (Vec<Result<usize, ErrorKind>>, String);

    /// Takes what a list says, one step per write: so many bytes, or an error.
    #[derive(Clone)]
    struct Steps(Arc<Mutex<Script>>);

    impl Write for Steps {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut steps = self.0.lock().unwrap();
            let most = if steps.0.is_empty() { usize::MAX } else { steps.0.remove(0)? };
            let taken = &bytes[..most.min(bytes.len())];
            steps.1 += std::str::from_utf8(taken).unwrap();
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(steps: Vec<Result<usize, ErrorKind>>, lines: &[&str], dropped: u64) -> (String, u64) {
        let out = Steps(Arc::new(Mutex::new((steps, String::new()))));
        let (sender, entries) = sync_channel(lines.len());
        lines.iter().for_each(|line| sender.send(Entry::Text(format!("{line}\n"))).unwrap());
        drop(sender);
        let dropped = AtomicU64::new(dropped);
        write_entries(out.clone(), &entries, &dropped);
        let written = out.0.lock().unwrap().1.clone();
        (written, dropped.into_inner())
    }

    #[test]
    fn what_is_said_is_one_line_without_controls() {
        assert_eq!(seen("a\u{1b}[2J\nFAKE\u{202e}"), r"a\u{1b}[2J\nFAKE\u{202e}");
        let long = seen(&"x".repeat(2 * MAX_LINE_CHARACTERS));
        assert_eq!((long.chars().count(), long.ends_with('…')), (MAX_LINE_CHARACTERS + 1, true));
    }

    #[test]
    fn what_cannot_be_written_is_dropped_and_counted() {
        let told = |lost| format!("{lost} lines were dropped here: they came too fast, or could not be written\n");
        assert_eq!(written(vec![], &["a", "b"], 0), ("a\nb\n".to_owned(), 0));
        assert_eq!(written(vec![], &["a"], 7), (told(7) + "a\n", 0));
        // A full disk: the first line is lost, then there is room.
        let full = || Err(ErrorKind::StorageFull);
        assert_eq!(written(vec![full()], &["a", "b"], 0), (told(1) + "b\n", 0));
        // In the middle of a line, whose end then stands before the next.
        assert_eq!(written(vec![Ok(2), full()], &["abc", "d"], 0), (format!("ab\n{}d\n", told(1)), 0));
        // Nobody reads: nothing is written, nothing ends, and all is counted.
        let gone = (0..9).map(|_| Err(ErrorKind::BrokenPipe)).collect();
        assert_eq!(written(gone, &["a", "b", "c"], 0), (String::new(), 3));
        // What only takes its time is waited for.
        let slow = vec![Err(ErrorKind::WouldBlock), Ok(1), Err(ErrorKind::Interrupted)];
        assert_eq!(written(slow, &["abc"], 0), ("abc\n".to_owned(), 0));
    }

    #[test]
    fn one_kind_of_warning_comes_ten_times_and_then_once_a_second() {
        let (mut kind, now) = (Kind::default(), Instant::now());
        let burst: Vec<_> = (0..12).map(|_| kind.admit(now)).collect();
        assert_eq!(burst, [[Some(0); 10].as_slice(), &[None; 2]].concat());
        let later = now + KIND_PERIOD;
        assert_eq!((kind.admit(later), kind.admit(later)), (Some(2), None));
        let much_later = later + KIND_PERIOD * 1_000;
        assert_eq!((kind.admit(much_later), kind.admit(much_later)), (Some(1), Some(0)));
    }
}
