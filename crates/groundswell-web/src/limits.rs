//! Every limit of the HTTP interface, named, with its unit and its reason.

use std::time::Duration;

/// The most connections at once: one page needs six, five hundred open streams fit, and what is left of the 1,024 files
/// that a process usually may have open is the node's.
pub const MAX_CONNECTIONS: usize = 768;

/// The most connections among them on which no valid request has come yet. At one more the oldest is closed: whoever
/// has something to say has said it long before, however many others say nothing.
pub const MAX_STRANGERS: usize = 128;

/// The most open event streams at once, so that requests still find a connection.
pub const MAX_STREAMS: usize = 640;

/// How long the head of a request may take to arrive, and a connection be idle: far beyond any program on this device.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the body of a request may take to arrive: the largest, over a slow line.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes of a body that no handler wants are read before the answer (16 MiB, twice the largest that is wanted),
/// and for how long: many clients read no answer before they have sent the whole request, and another request may follow.
pub const DRAIN_BYTES: usize = 16 * 1024 * 1024;

/// See [`DRAIN_BYTES`].
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes are read of what comes after the last answer of a connection (64 MiB, a body that nobody wants), and
/// for how long in all: a connection that is closed with unread bytes is reset, and the answer is lost.
pub const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// See [`LINGER_BYTES`].
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may say nothing after its last answer before it is closed.
pub const LINGER_PAUSE: Duration = Duration::from_secs(2);

/// How long streams may go on after the interface was shut down, if the node was before: they have what was committed to
/// tell, and end by themselves.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a connection may take no byte of what is sent to it before it counts as dead: longer than a laptop's lid is
/// closed by mistake. Until then a stalled reader costs its connection and a cursor.
pub const STALLED_TIMEOUT: Duration = Duration::from_secs(120);

/// The most bytes of the head of a request, and of what is written ahead of a slow reader (64 KiB): thirty-two
/// topics with the longest paths fit.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// The most header lines of a request: four times a browser's.
pub const MAX_HEADERS: usize = 64;

/// The most bytes of a JSON body that names things (512 KiB): the ids of the 4,096 peers that a path may be open to.
pub const MAX_JSON_BYTES: usize = 512 * 1024;

/// The most bytes of a JSON body with waves (8 MiB): what one flush of the disk carries well.
pub const MAX_WAVES_BYTES: usize = 8 * 1024 * 1024;

/// How many requests are answered in a second, and how many may come at once after a pause: beyond what one connection
/// after another can ask, so that only a runaway program meets it.
pub const REQUESTS_PER_SECOND: u32 = 5_000;

/// How many requests without a valid token are answered with the reason in a second: enough for a page whose session has
/// ended, too few to matter to anybody else.
pub const STRANGE_REQUESTS_PER_SECOND: u32 = 200;

/// How long a one-time link is valid: the time to walk over to a browser.
pub const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// How many one-time links are valid at once; the oldest goes first.
pub const MAX_CODES: usize = 16;

/// How long a session lasts: a week of work, then the link is asked for again. In the run of the node that began it,
/// that is by the monotonic clock; in a later one by the clock of the wall.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often a stream shows that it lives. Three of them missing is a page's proof that the node is gone.
pub const HEARTBEAT_PERIOD: Duration = Duration::from_secs(10);

/// How long a browser is told to wait before it connects again.
pub const RETRY: Duration = Duration::from_secs(1);

/// How often a node's status is looked at, at most, while it changes: a rate is a difference over time.
pub const SAMPLE_PERIOD: Duration = Duration::from_secs(1);

/// How often the topic `node` tells counters and addresses, at least: they are no changes of a status, and are told with
/// one that is.
pub const COUNTERS_PERIOD: Duration = Duration::from_secs(5);

/// How many bytes of ready events are sent together (16 KiB): one write to the socket, and no event waits for another.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// The most topics of one stream: a page shows fewer.
pub const MAX_TOPICS: usize = 32;

/// The most cursors in the id of an event, 30 bytes each: as base64 less than the 4 KiB that any proxy lets through.
pub const MAX_PLACES: usize = 100;

/// How long a request may wait for what was written to be delivered, in seconds.
pub const MAX_DELIVERED_SECONDS: u64 = 60;

/// The most entries in one answer of a list.
pub const MAX_LIST_ENTRIES: usize = 10_000;

/// How many entries an answer of a list has if nothing else is said.
pub const DEFAULT_LIST_ENTRIES: usize = 1_000;

/// The most bytes of keys and values in one answer of a list (16 MiB), or one entry.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// How far back a stream of a path can be asked to begin, in waves: a page's worth, many times.
pub const MAX_LAST_WAVES: u64 = 1_000;

/// How many claims that have ended are remembered.
pub const MAX_CLAIMS: usize = 32;

/// How many claims of this manager may wait for an answer at once: one person compares PINs.
pub const MAX_PENDING_CLAIMS: usize = 8;

/// For how long pairing is opened if nothing else is said, in seconds (2 min): to go to the manager and paste a ticket.
pub const PAIRING_OPEN_SECONDS: u64 = 120;

/// For how long a ticket with a one-time secret is good if nothing else is said, in seconds (1 h).
pub const CLAIM_TICKET_SECONDS: u64 = 3_600;

/// How long a claim may take in all (65 s): the minute that the machine allows, and what was under way then.
pub const CLAIM_DEADLINE: Duration = Duration::from_secs(65);

/// How long a shutdown may take before what is left is cut off: half of the node's own.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
