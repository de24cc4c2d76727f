//! Every limit of the node, named, with its unit and its reason. Those of the core are in
//! [`groundswell_core::limits`].

use std::time::Duration;

pub use groundswell_core::limits::{
    KV_ENTRY_BYTES, MAX_CLAIM_SECRET_MS, MAX_CLAIMS_OPEN_MS, MAX_KV_KEY_BYTES, MAX_KV_KEYS, MAX_KV_VALUE_BYTES,
    MAX_WAVES_AT_ONCE,
};

/// How many bytes the keys and values of one document may take (64 MiB), unless the builder says otherwise: a thousand times what a
/// device that sells something has, and little enough for a manager that is such a device itself. All of them are held in memory.
pub const MAX_KV_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The same of all documents of a node together (1 GiB).
pub const MAX_KV_BYTES: u64 = 1024 * 1024 * 1024;

/// For how long another side is not believed that it holds more of this side's keys than it was sent (10 minutes), after it has
/// claimed that and not shown it: each claim costs the signing of a whole document.
pub const CLAIMED_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// The most streams of updates that a node has open at once, for its own agents; and the most
/// sources that it follows, read or not: each costs a stream on the wire and a task. What an agent's
/// program reads does not count again.
pub const MAX_SUBSCRIPTIONS: usize = 10_000;

/// The most subscriptions of one remote peer that this node serves: a stream and a task each, so that one peer can't
/// take what all others need. All programs of a node share one subscription to a path.
pub const MAX_SUBSCRIPTIONS_OF_PEER: u32 = 1_000;

/// The most subscriptions of one remote peer that may wait for a path that is not available,
/// beside those that are served: as many again, so that a peer that asks for all it wants before any of it is there
/// is not refused.
pub const MAX_PARKED_OF_PEER: u32 = 1_000;

/// How many bytes this node holds at most for a remote subscription that has nothing to do, beyond its QUIC stream
/// (1,120): a peer's two thousand then cost little more than two of its waves. Nothing enforces it but the size of what is
/// held, which a test measures.
pub const IDLE_SUBSCRIPTION_BYTES: usize = 1_120;

/// The most connections that one peer may have with this node at once. One is enough; the
/// rest is room for both sides dialling at once, and for connections that are already dead.
pub const MAX_CONNECTIONS_OF_PEER: usize = 8;

/// How long a shutdown may take, in all: less than the time after which init systems and containers kill, and longer than
/// any flush of a disk that works.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a handshake may take, a new connection to say hello after it, and a new stream to say what it wants (3 s each):
/// several round trips of the worst line, and no longer, since each takes a place meanwhile.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// How many bytes may be on their way to this node on all streams of a connection (16 KiB) until its peer has said hello: twice
/// the largest frame that may come by then. What is received and not read holds the buffers in which the packets came,
/// which others share, so that it may cost several times as much.
pub const STRANGER_WINDOW_BYTES: u32 = 16 * 1024;

/// The same after the hello (64 KiB), unless this node follows the peer or shares a document with it. Nobody else
/// sends more than requests, of which eight fit.
pub const FOLLOWER_WINDOW_BYTES: u32 = 64 * 1024;

/// How many streams a connection may have open until its peer has said hello (4): one for the hello of a subscriber, which
/// goes one way, and three that go both ways, of which a document or a claim needs one.
pub const STRANGER_STREAMS: u32 = 4;

/// How many connections of strangers there are at once: peers that this node does not know and has not served anything
/// yet. Beyond it the oldest of them is closed. At 75 to 115 KiB each they cost 3 MiB, and the allocator holds
/// about twice that. While newcomers come at [`CROWDED_NEWCOMERS_PER_SECOND`] each has its place for 0.8 s, in which a hello
/// arrives from anywhere.
pub const MAX_STRANGERS: usize = 32;

/// How many claims keep the places of their peers while they are under way (8): the
/// [`MAX_CLAIMS_AT_ONCE`](groundswell_core::limits::MAX_CLAIMS_AT_ONCE) that a machine admits, and as many that others have
/// replaced and that are about to end. Connections of strangers among those peers come on top of [`MAX_STRANGERS`].
pub const MAX_CLAIM_PLACES: usize = 2 * groundswell_core::limits::MAX_CLAIMS_AT_ONCE;

/// How many connections of followers there are at once: peers that this node does not know, and that read something
/// here. Whoever would be one more takes the place of the one that was sent nothing for longest, which comes back later.
pub const MAX_FOLLOWERS: usize = 2_048;

/// How many connections there are at once of peers that this node knows: those that it follows, that a path is open to by
/// name, and that it shares a document with. A manager has one for each machine, and a few more where machines follow
/// its paths.
pub const MAX_KNOWN: usize = 65_536;

/// How many chunks of a rock one transaction writes ahead or removes (16, which is 1 MiB): what else is to be written
/// waits for one such transaction at most, a few milliseconds.
pub const BODY_SLICE_CHUNKS: u32 = 16;

/// How many handshakes are under way at once with addresses that are not known. Beyond it the oldest of them is given up: a handshake
/// that is meant takes two round trips, so that it is over long before 16 newer ones have come.
pub const MAX_HALF_OPEN: usize = 16;

/// How many handshakes are under way before the address of a newcomer is validated first, by a QUIC Retry: it costs an honest peer
/// one round trip, and one that lies about its address everything.
pub const VALIDATE_ABOVE: usize = 8;

/// How many streams a peer that this node does not know may open beside those that have a place (64): enough to ask for
/// many paths in one round trip. Each that takes a place allows another.
pub const FRESH_STREAMS: u32 = 64;

/// How many newcomers from addresses that are not known a node takes in a second while it is crowded (40). It is crowded while
/// the places of strangers, or half of those of handshakes, are taken, when so many were taken within a second, and until
/// the last turn is over. A handshake costs a few milliseconds of a processor with all that comes of it, so that all of
/// them take a quarter of one at most.
pub const CROWDED_NEWCOMERS_PER_SECOND: u32 = 40;

/// How many newcomers have a turn while a node is crowded (1,024, which is 26 s of them): all that come again within the
/// time that they dial.
pub const MAX_CROWDED_TURNS: usize = 1_024;

/// For how long such a turn is kept that nobody takes (8 s): QUIC sends a first packet again after 1, 3 and 7 s.
pub const TURN_KEPT: Duration = Duration::from_secs(8);

/// How many handshakes under way with the address of one chosen peer have a place of their own (4): two that both sides dialled
/// and two that are dead. An address proves no identity, so that any more count as those of newcomers.
pub const MAX_HALF_OPEN_OF_CHOSEN: usize = 4;

/// The same of all chosen peers together (256, at about 110 KiB each): so many machines of one manager reach it at the same
/// moment before one of them waits for the turn of a newcomer.
pub const MAX_HALF_OPEN_OF_ALL_CHOSEN: usize = 256;

/// How many streams of each peer that this node does not know may wait in any case for their request to be read (4): a few
/// round trips each. More come from a pool of [`WAITING_OF_UNKNOWN`] of all of them together.
pub const ASKING_OF_EACH_UNKNOWN: u32 = 4;

/// How many streams of each peer that this node does not know may wait in any case for a path that is
/// not available (1); and how many more of all of them together (2,048), where one may have as many as are still free:
/// about 5 KiB each, 10 MiB in all. Beyond it a request is refused.
pub const WAITING_OF_EACH_UNKNOWN: u32 = 1;
/// See [`WAITING_OF_EACH_UNKNOWN`].
pub const WAITING_OF_UNKNOWN: u32 = 2_048;

/// How many bytes the names and paths of those streams may have: 256 of each peer in any case, and 1 MiB more of all of them
/// together.
pub const WAITING_BYTES_OF_EACH_UNKNOWN: u32 = 256;
/// See [`WAITING_BYTES_OF_EACH_UNKNOWN`].
pub const WAITING_BYTES_OF_UNKNOWN: u32 = 1024 * 1024;

/// How many subscriptions of each peer that this node does not know it serves in any case (8), so that no newcomer is kept
/// out; and how many more of all of them together (3,616), where one may have as many as are still free. At about 2 KiB
/// each the shared ones cost 7 MiB, and those of [`MAX_FOLLOWERS`] peers 40 MiB. Beyond it a request is refused.
pub const SERVED_OF_EACH_UNKNOWN: u32 = 8;
/// See [`SERVED_OF_EACH_UNKNOWN`].
pub const SERVED_OF_UNKNOWN: u32 = 3_616;

/// How many bytes of waves and rocks are read for a peer that this node does not know, and are not written to its stream yet:
/// one batch (16 KiB) of each peer in any case, and 8 MiB more of all of them together, where one may have as much as is
/// still free. Beyond it they wait, in the order in which they ask.
pub const SENDING_BYTES_OF_EACH_UNKNOWN: u32 = 16 * 1024;
/// See [`SENDING_BYTES_OF_EACH_UNKNOWN`].
pub const SENDING_BYTES_OF_UNKNOWN: u32 = 8 * 1024 * 1024;

/// How long such a peer may take for so many bytes ([`SENDING_BYTES_OF_EACH_UNKNOWN`]) while others wait for the room that it
/// has (5 s, which is 3 kB/s): then its subscription is ended, and it asks again later.
pub const SENDING_PATIENCE: Duration = Duration::from_secs(5);

/// How many bytes of what this node sends on one connection may wait for their acknowledgement (2 MiB): 20 MB/s over a round
/// trip of 100 ms, and a bound on what a peer that acknowledges nothing makes this node hold.
pub const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// The same where a peer has come from an address at which no peer was reached that the owner of this node has chosen (256 KiB):
/// 2.5 MB/s over a round trip of 100 ms. It cannot be changed later, so that it holds for a chosen peer from a new address too.
pub const NEWCOMER_SEND_WINDOW_BYTES: u64 = 256 * 1024;

/// How many connections of peers that this node does not know have [`NEWCOMER_SEND_WINDOW_BYTES`] at once (64, which is 16 MiB).
/// All others have [`NARROW_SEND_WINDOW_BYTES`].
pub const MAX_WIDE_NEWCOMERS: usize = 64;

/// The same for every further connection of such a peer, and for one that this node dials to a follower (32 KiB): 320 kB/s over a round trip
/// of 100 ms. Of all followers together that is 64 MiB.
pub const NARROW_SEND_WINDOW_BYTES: u64 = 32 * 1024;

/// How long dialling a peer may take before it counts as failed (5 s): three first packets. With [`BACKOFF_LAST`] two peers
/// meet again within 10 s of the end of whatever kept them apart.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a peer that is away for [`ABSENT_AFTER`], and where a person waits, as for a claim (15 s): a look-up, a relay
/// and a line on which a packet takes seconds.
pub const ABSENT_DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that is silent for so long is dead. With [`KEEP_ALIVE`] this is three
/// keep-alives lost in a row.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Two connections that come up within this time were dialled by both sides at once. A later one takes the place of the
/// one before.
pub const BOTH_DIALLED: Duration = Duration::from_secs(2);

/// How many bytes may be on their way to this node on all streams of one connection (32 MiB): ten
/// times what a fast line with a long round trip needs, and a bound on what a peer can make us hold.
pub const RECEIVE_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// How long a connection to a peer that this node does not know stays although neither side wants anything of the other (60 s): a
/// peer that was refused asks again within [`BACKOFF_REFUSED`]. A private node waits for [`HELLO_TIMEOUT`] only.
pub const UNUSED_AFTER: Duration = Duration::from_secs(60);

/// How often a connection that has nothing to say says so: often enough to keep the mapping of any router.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How long a dial has a place (5 s): one that takes longer goes on without it, so that those that answer do not wait for
/// those that are off.
pub const DIAL_TURN: Duration = Duration::from_secs(5);

/// The first wait before dialling again; it doubles at each failure, with jitter. A peer that only restarts is back
/// within it.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// The longest wait before dialling again a peer that was there in the last [`ABSENT_AFTER`] (4 s), and before a document is
/// asked for again.
pub const BACKOFF_LAST: Duration = Duration::from_secs(4);

/// The longest wait before a peer is asked again that answers and refuses (30 s): it is private, has no room, speaks another
/// version, or does not know the pair or the path. It says so by itself when that changes, or dials.
pub const BACKOFF_REFUSED: Duration = Duration::from_secs(30);

/// How long the driver waits for readers of a rock before it leaves them that rock and goes
/// on with a copy: long enough for any quick look, short enough for every writer.
pub const READER_PATIENCE: Duration = Duration::from_millis(5);

/// How many threads there are at most for the code of lakes of replicas: each costs little while its wash waits or runs,
/// and far more than the processors of any device get nothing done sooner.
pub const MAX_WASHERS: usize = 256;

/// How many of them slow replicas may take: three quarters, so that the others are never without.
pub const MAX_SLOW_WASHERS: usize = MAX_WASHERS / 4 * 3;

/// A turn of a replica that took longer counts as slow (50 ms): what nobody but its own readers may notice.
pub const SLOW_WASH: Duration = Duration::from_millis(50);

/// How long the waves of a replica are washed before those that are done are made durable and shown (100 ms), or one
/// wave: its readers see a slow lake go on.
pub const WASH_TURN: Duration = Duration::from_millis(100);

/// How long a thread for replicas waits for more to do before it ends (10 s): the next wave of a replica that is given to
/// now and then finds one.
pub const WASHER_IDLE: Duration = Duration::from_secs(10);

/// How long a shutdown waits for washes of replicas that are under way (1 s). What is cut off is fetched again after
/// the next start.
pub const WASH_SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// How many requests may wait for one replica while its lake's code runs: as many as for the driver.
pub const MAX_WAITING_FOR_REPLICA: usize = DRIVER_QUEUE;

/// How many bytes of waves and rocks a replica keeps at most beyond its newest rock and the waves since (64 MiB), whatever
/// sizes its publisher chooses: a thousand waves of 64 KiB. A rule without a horizon keeps everything.
pub const MAX_REPLICA_HISTORY_BYTES: u64 = 64 * 1024 * 1024;

/// How many commands may wait for the driver: one batch, while another is written. Callers beyond it wait their turn.
pub const DRIVER_QUEUE: usize = 1_024;

/// How many commands the driver takes into one transaction: far beyond what makes a flush cheap for each, and few
/// enough that the first of them does not wait long.
pub const MAX_BATCH_COMMANDS: usize = 1_024;

/// How many bytes of waves the driver takes into one transaction before it commits (4 MiB), likewise.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How many addresses of a peer are remembered, the newest first: two networks, with both kinds of address, of
/// today and of the day before.
pub const MAX_ADDRESSES_OF_PEER: usize = 8;

/// How many peers' addresses are remembered of those that the owner of this node has chosen: by following them, by a ticket, or by
/// a pairing. No other peer takes a place among them. Beyond it, which no choice of a person reaches, the one that was seen
/// longest ago is forgotten.
pub const MAX_REMEMBERED_PEERS: usize = 65_536;

/// How many followers' addresses are remembered, in a ring of their own, so that they are told when this node is back.
pub const MAX_REMEMBERED_FOLLOWERS: usize = 256;

/// How often that ring is written at most (10 s), along with something else: a follower costs no transaction.
pub const FOLLOWERS_WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// How many peers of earlier runs are told that this node is back, when it starts: each is dialled at once, and the rest
/// dial by themselves.
pub const MAX_ANNOUNCED_PEERS: usize = 1_024;

/// The memory that storage may use for its cache (64 MiB): the inner pages of a large file and the newest rows, on a
/// small machine too.
pub const STORE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of the disk a node keeps for its own start (20 MiB): everything that the journal can hold and the tables lack, and
/// some for the marks of a run and the docs engine. On a full disk they are given up, so that the node can be read.
pub const RESERVE_BYTES: u64 = 20 * 1024 * 1024;

/// How many bytes of entries are read from storage at once, or one entry (256 KiB).
pub const READ_ENTRIES_BYTES: usize = 256 * 1024;

/// How many bytes of the newest entries of an author a document keeps for its other side (128 KiB):
/// who is up to date reads no disk.
pub const KV_RECENT_BYTES: usize = 128 * 1024;

/// How many bytes of entries are taken from a connection into one transaction (1 MiB), or one entry.
pub const KV_RECEIVE_BYTES: usize = 1024 * 1024;

/// How long entries are read before a write has its turn, where all are asked for (0.1 ms), beside one look at
/// [`READER_SCAN_KEYS`](groundswell_core::limits::READER_SCAN_KEYS) keys: a fraction of the flush that each write waits for.
pub const KV_READ_TURN: Duration = Duration::from_micros(100);

/// How long a write may be on its way to the other side before the status says so (1 s): a few round trips of the
/// worst line.
pub const KV_DELIVERED_WITHIN: Duration = Duration::from_secs(1);

/// How long nothing has to be written before the docs engine is fed what is new (250 ms): its inserting costs
/// more than the write itself, and a key that is written again and again need be inserted once.
pub const KV_FEED_PAUSE: Duration = Duration::from_millis(250);

/// How long the docs engine is left alone at most while something is written all the time (2 s).
pub const KV_FEED_LATEST: Duration = Duration::from_secs(2);

/// How long after the beginning of a connection its two sides reconcile, to check what was sent.
pub const KV_RECONCILE_AFTER: Duration = Duration::from_secs(5);

/// How long after that they do so again: a check of what should be alike already.
pub const KV_RECONCILE_PERIOD: Duration = Duration::from_secs(600);

/// How long a side waits before it answers another reconciliation of a document (1 s), over whichever connection: each costs time
/// of the one docs thread, however often the other side begins one.
pub const KV_RECONCILE_PAUSE: Duration = Duration::from_secs(1);

/// How many documents a manager reconciles at a time, in the order in which they ask: enough that a few slow machines
/// hold up nobody, and few enough that the messages of all of them fit into memory.
pub const KV_RECONCILES_AT_ONCE: usize = 16;

/// The most bytes of one message of a reconciliation (1 MiB): some 3,800 entries. What differs is little, since
/// both sides have fed their documents before. A side with more to say says the rest in a later reconciliation.
pub const MAX_RECONCILE_BYTES: usize = 1024 * 1024;

/// How many of its own entries a side looks up for one message of a reconciliation that asks for all in a range (4,096): as many
/// as fit into an answer. The first message may also have the fingerprints of ranges compared that have all of this side's
/// entries and so many more, and each later one those of half as many and so many more.
pub const MAX_RECONCILE_ENTRIES: usize = 4_096;

/// The most messages that one side takes in one reconciliation: each halves the ranges that differ, so that those of
/// 400,000 entries need 10 from each side.
pub const MAX_RECONCILE_MESSAGES: usize = 32;

/// The most bytes that one side takes in one reconciliation (8 MiB), in all its messages.
pub const MAX_RECONCILE_TOTAL_BYTES: usize = 8 * 1024 * 1024;

/// How long the other side may be waited for in one reconciliation, in all (30 s): 20 round trips and a few kilobytes, on
/// the worst line.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(30);

/// How many ranges of a reconciliation's message the one docs thread processes before other documents have their turn.
pub const KV_RECONCILE_PARTS: usize = 32;

/// How many entries of one document are noted at a time as known and missing here: some turns of what can be asked for at
/// once. A later reconciliation finds the rest.
pub const MAX_KV_MISSING: usize = 16_384;

/// The highest limit that can be set for values (64 MiB): each is held in memory whole.
pub const MAX_KV_VALUE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// How long a machine that is connected to its manager waits for it to open the stream of their document (2 s), before it does
/// so itself: only a manager that has lost the document opens none.
pub const KV_OPENED_WITHIN: Duration = Duration::from_secs(2);

/// How long a side waits for the other to answer a release (5 s), before it says it again later.
pub const KV_RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many documents that it has given up a side remembers, to tell the other sides so or to answer them again (1,024
/// rows of about 150 bytes). Beyond it the oldest that was told is forgotten, then the oldest that was not.
pub const MAX_FORMER_DOCUMENTS: usize = 1_024;

/// How long a peer is away before it is dialled more rarely (2 minutes): longer than a restart or an update of a device. A
/// peer that comes back dials by itself, or announces itself, a moment after it can.
pub const ABSENT_AFTER: Duration = Duration::from_secs(120);

/// The longest wait before a peer is dialled again that is away for so long (60 s): it matters only for one that cannot
/// dial by itself, as this node is behind a firewall.
pub const BACKOFF_ABSENT: Duration = Duration::from_secs(60);

/// How many peers a node dials at a time that were reached a short while ago (64), sources and other sides of documents
/// together: a fleet that is there is reached in a second or two after a start, and one that is off costs 13 dials a second.
pub const DIALS_AT_ONCE: usize = 64;

/// How many peers a node dials at a time that are away for [`ABSENT_AFTER`], or that it tells that it is back (16): 3 dials
/// a second, however many are away.
pub const ABSENT_DIALS_AT_ONCE: usize = 16;

/// How many bytes of what a failing handler said are kept with its state (1 KiB): the first line of
/// any sensible error.
pub const MAX_FAIL_BYTES: usize = 1_024;

/// How many bytes the id of a write has at most (128 B): a UUID and a ULID have fewer than 40, and a name before it fits.
pub const MAX_WRITE_ID_BYTES: usize = 128;

/// How many ids of gives are remembered of each agent, those that sort last, and as many of gives in memory: hours of
/// retries at one a second, each in 2 MiB of memory, and the first of disk.
pub const MAX_WRITE_IDS: usize = 10_000;

/// How many ids of key writes are remembered of each document, likewise. A manager has a document for each machine, and
/// all of them in memory: 256 KiB each at most.
pub const MAX_KV_WRITE_IDS: usize = 1_024;

/// How long the driver and the keeper wait before they repeat a write whose outcome is unknown, where nobody asks for
/// anything meanwhile (1 s): a disk that failed a moment ago is not hammered, and readers wait no longer than that.
pub const REPEAT_UNKNOWN_AFTER: Duration = Duration::from_secs(1);

/// How many peers a node looks for on the local network at once (256): the dials that can be under way, and some. A look-up
/// beyond it ends at once and finds nothing.
pub const MAX_LAN_LOOKUPS: usize = 256;

/// How long a look-up on the local network waits for answers (10 s): its three questions fit, and an answer to each.
pub const LAN_LOOKUP_TIME: Duration = Duration::from_secs(10);

/// How many addresses an answer on the local network has at most (16), of those that this node gives and of those that it
/// takes: two for each of eight networks. Such an answer fits into one Ethernet frame.
pub const MAX_LAN_ADDRESSES: usize = 16;

/// How many answers one look-up takes at once (16); after that it takes the newest once a second. A peer gives another one each
/// time its addresses change, and anybody can send old ones again.
pub const MAX_LAN_ANSWERS_OF_LOOKUP: usize = 16;

/// The largest mDNS packet that is looked at (1,472 bytes): one Ethernet frame.
pub const MAX_LAN_PACKET_BYTES: usize = 1_472;

/// How many questions and records an mDNS packet has at most that is looked at (16), and how many questions one has that
/// this node sends. They fit into one Ethernet frame.
pub const MAX_LAN_RECORDS: usize = 16;

/// How many mDNS packets a node reads in a second (1,000, a few milliseconds of a processor). The system drops what comes
/// beyond it.
pub const LAN_PACKETS_PER_SECOND: u32 = 1_000;

/// How much time a node spends on those packets in a second (50 ms), if they are made to be slow: an answer to a look-up costs
/// the check of a signature.
pub const LAN_TIME_PER_SECOND: Duration = Duration::from_millis(50);

/// How often a node says its own addresses on the local network at most (1 s), as RFC 6762 demands.
pub const LAN_ANSWER_EVERY: Duration = Duration::from_secs(1);

/// How many network interfaces a node uses for mDNS (32), the first ones: each costs two sockets.
pub const MAX_LAN_INTERFACES: usize = 32;

/// How many bytes of received packets the system keeps for each of those sockets (64 KiB): a hundred packets.
pub const LAN_SOCKET_BYTES: usize = 64 * 1024;

/// How often the network interfaces are looked at for mDNS at least (60 s). A new address and a look-up have them looked at
/// before.
pub const LAN_LOOK_EVERY: Duration = Duration::from_secs(60);

/// The first wait before mDNS is tried again on an interface where it failed (1 s), and the longest (60 s). It doubles in
/// between.
pub const LAN_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// See [`LAN_BACKOFF_FIRST`].
pub const LAN_BACKOFF_LAST: Duration = Duration::from_secs(60);
