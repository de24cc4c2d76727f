//! Every limit of the core, named, with its unit and its reason.
//!
//! A limit that a peer or a caller can meet is checked where the bytes come in,
//! before memory is taken for them, and its error names the constant's value.

/// The most segments that a path may have. Deep enough for any real hierarchy,
/// small enough that a path is never worth attacking with.
pub const MAX_PATH_SEGMENTS: usize = 16;

/// The most bytes that one segment of a path may have: what file systems allow a name.
pub const MAX_SEGMENT_BYTES: usize = 255;

/// The most bytes that the name of an agent or of a lake may have: room for any name that people say, and for a digest
/// in hexadecimal.
pub const MAX_NAME_BYTES: usize = 64;

/// The most bytes that one encoded wave may have (1 MiB). A wave is an instruction,
/// not a transfer; one is held in memory whole, by each side.
pub const MAX_WAVE_BYTES: usize = 1024 * 1024;

/// The most bytes that one encoded rock may have (256 MiB). A rock is held in memory
/// once at the publisher and twice at each follower; more than this does not belong into replicated state.
pub const MAX_ROCK_BYTES: usize = 256 * 1024 * 1024;

/// How many bytes of a rock travel in one frame, and are stored in one row (64 KiB).
/// Small enough that a stalled transfer holds next to nothing, large enough that
/// a frame's own bytes do not count.
pub const ROCK_CHUNK_BYTES: usize = 64 * 1024;

/// The most bytes of one frame's body: the largest wave and room for what goes with it. No longer one is read.
pub const MAX_FRAME_BYTES: usize = MAX_WAVE_BYTES + 1024;

/// The most bytes of a hello's or a request's frame (8 KiB): a path, two names and a cursor fit
/// twice. They come before a peer has any place here, so that they are kept small.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// The most bytes that later versions may add to a hello (1 KiB): room for several keys and numbers, within
/// [`MAX_REQUEST_BYTES`] and [`MAX_CLAIM_MESSAGE_BYTES`].
pub const MAX_HELLO_EXTENSION_BYTES: usize = 1_024;

/// The most waves that one `give_all` may hold: all of them go into one transaction, for which all other givers wait.
pub const MAX_WAVES_AT_ONCE: usize = 65_536;

/// The most bytes of encoded waves that one `give_all` may hold (64 MiB), likewise.
pub const MAX_GIVE_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of its newest waves a tide keeps in memory (256 KiB) for readers
/// that follow closely. Readers further behind are served from storage.
pub const RECENT_BYTES: usize = 256 * 1024;

/// How many bytes of waves a reader is handed at once (256 KiB). This bounds what
/// a stalled reader holds, and is part of no contract on batch boundaries: a reader
/// sees waves one by one.
pub const READ_BATCH_BYTES: usize = 256 * 1024;

/// What a wave is taken to weigh beyond its own bytes when the automatic rule compares
/// the waves since the last rock with that rock: about what a row and a frame cost.
pub const WAVE_OVERHEAD_BYTES: u64 = 32;

/// The automatic rule makes no rock before the waves since the last one weigh this much
/// (64 KiB), so that a small state is not snapshotted at each wave.
pub const AUTOMATIC_ROCK_FLOOR_BYTES: u64 = 64 * 1024;

/// The default horizon of a rule, in waves: a reader that misses so few goes on one by one; for more than that
/// a rock is the shorter way.
pub const DEFAULT_HORIZON: u64 = 1_000;

/// How many waves beyond its horizon a tide lets gather before it drops them together:
/// one deletion for many waves costs far less than one each.
pub const PRUNE_SLACK_WAVES: u64 = 256;

/// The most bytes that the key of an entry may have (1 KiB). The empty key is one too.
pub const MAX_KV_KEY_BYTES: usize = 1_024;

/// The most bytes that a value may have unless a store is told otherwise (1 MiB): a value is
/// held in memory whole, by each side.
pub const MAX_KV_VALUE_BYTES: usize = 1024 * 1024;

/// The most bytes of an envelope beyond its value: the longest key and the longest name of
/// a space, and every number at its widest.
pub const MAX_ENVELOPE_OVERHEAD_BYTES: usize = MAX_KV_KEY_BYTES + MAX_NAME_BYTES + 64;

/// How long acknowledgements of entries are gathered (20 ms): one for many saves packets, and nobody who waits for a delivery
/// notices so little.
pub const KV_ACKNOWLEDGE_AFTER_MS: u64 = 20;

/// How many entries may be wanted and not answered at a time (1,024): about a thousand small answers fill as many packets.
pub const MAX_KV_WANTS: usize = 1_024;

/// How many keys may ever be used in a document, those of all spaces and the deleted ones
/// together. A deleted key costs its tombstone for ever, so that an old write can't bring
/// it back; and comparing two documents takes time by the number of their keys.
pub const MAX_KV_KEYS: usize = 100_000;

/// How many keys a view takes from both sides together. Each side writes new keys only while
/// it knows of fewer than [`MAX_KV_KEYS`], so that two sides that were apart can have twice as
/// many, and still have to agree on them. More can only come from a side that breaks the rule.
pub const MAX_VIEW_KEYS: usize = 2 * MAX_KV_KEYS;

/// How many bytes a key counts besides its name and its value (256): its places in the view's two orders, and what is known of it.
pub const KV_ENTRY_BYTES: u64 = 256;

/// How many keys a reader looks at in one call (1,024), so that whoever holds the view for it
/// lets writers in between.
pub const READER_SCAN_KEYS: usize = 1_024;

/// A reader of at most so many single keys looks these up where the view has changed; others
/// look at every change.
pub const FEW_KEYS: usize = 16;

/// The latest wall-clock time that a stamp may hold, in milliseconds since 1970: the year 10,889.
/// A clock that shows more is taken to show this. So there is always room for the next stamp.
pub const MAX_STAMP_WALL_MS: u64 = 1 << 48;

/// The greatest count that a stamp of the other side may hold. No honest side gets here; the
/// other half of the numbers is room to count on after a side that is not.
pub const MAX_STAMP_COUNT: u64 = u64::MAX / 2;

/// How far ahead of a stamp the bound is put that is stored before it is used, in milliseconds
/// (1 s): a clock is stored once a second at most, and after a restart its stamps are at most
/// so much ahead of the time.
pub const STAMP_RESERVE_MS: u64 = 1_000;

/// How many stamps are reserved at once where their wall-clock time can't grow any more.
pub const STAMP_RESERVE_COUNT: u64 = 1 << 20;

/// How many numbers of an author are reserved at once (4,096): one more thing to store in every
/// 4,096th write; a restart leaves so many out at most, of 2^64.
pub const COUNTER_BLOCK: u64 = 4_096;

/// How many counters a side leaves out at least when its storage went back (2^28), and up to twice as many: more than were given
/// since, and other ones than after another return to the same backup. iroh-docs takes counters of up to 600 s after 1970 by the
/// microsecond, whatever the wall clock shows; this is less.
pub const RESTORED_GAP: u64 = 1 << 28;

/// By how much a clock goes on from its bound when its side's storage is known to have gone back (one hour): what is written then has
/// greater stamps than what was lost, also where the wall clock stands still.
pub const RESTORED_CLOCK_GAP_MS: u64 = 3_600_000;

/// By how much more than it was sent the other side may say that it holds (2^40): a side that went back to one backup two thousand times
/// leaves out less.
pub const MAX_CLAIMED_MORE: u64 = 1 << 40;

/// The greatest counter that the other side may say that it holds of this side's entries (2^50): iroh-docs takes none that are far
/// beyond.
pub const MAX_CLAIMED_COUNTER: u64 = 1 << 50;

/// The most bytes of a document's signed entry, without its content: two signatures, three
/// keys, a hash and two numbers, which take fewer than 300.
pub const MAX_SIGNED_ENTRY_BYTES: usize = 512;

/// The most bytes of a frame between the two sides of a document beyond the envelope in it.
pub const KV_FRAME_OVERHEAD_BYTES: usize = MAX_SIGNED_ENTRY_BYTES + 64;

/// How long a claim may take from its first message until both people have answered, in
/// milliseconds (60 s): long enough to compare six digits, short enough to try again.
pub const CLAIM_TIMEOUT_MS: u64 = 60_000;

/// How long a manager may take from its claim until it reveals its nonce, in milliseconds (5 s): a few round trips of
/// the worst line. No person is asked before, so that a claim which is only held takes a place for no longer.
pub const CLAIM_REVEAL_TIMEOUT_MS: u64 = 5_000;

/// How many claims may be under way at a machine at once: what a person can tell apart by their PINs. A stranger who holds
/// one is in nobody's way.
pub const MAX_CLAIMS_AT_ONCE: usize = 4;

/// How many claims in vain of all peers together a machine takes, until a person opens pairing again or
/// [`CLAIM_WINDOW_MS`] has passed: each one is a chance in a million to meet the PIN that a manager is shown elsewhere.
pub const MAX_CLAIM_ATTEMPTS: usize = 20;

/// How many of them one peer may have: enough for an honest one, and a fraction of what all have together.
pub const MAX_CLAIM_ATTEMPTS_OF_PEER: usize = 5;

/// The longest time for which pairing can be opened at once, in milliseconds (10 min).
pub const MAX_CLAIMS_OPEN_MS: u64 = 600_000;

/// The longest time for which a one-time secret can be valid, in milliseconds (24 h).
pub const MAX_CLAIM_SECRET_MS: u64 = 86_400_000;

/// How long a claim in vain is held against the next ones, in milliseconds (10 min).
pub const CLAIM_WINDOW_MS: u64 = 600_000;

/// The most bytes that either side hands over with its consent (4 KiB): keys and addresses.
pub const MAX_CLAIM_PAYLOAD_BYTES: usize = 4 * 1024;

/// The most bytes of one message of a claim: the largest payload and room for what is around it.
pub const MAX_CLAIM_MESSAGE_BYTES: usize = MAX_CLAIM_PAYLOAD_BYTES + 64;
/// The most peers that one path may be open to by name. Their ids are stored in one row (128 KiB).
pub const MAX_ALLOWED_PEERS: usize = 4_096;
