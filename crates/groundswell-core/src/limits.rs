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
/// once at each side; more than this does not belong into replicated state.
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

/// The most peers that one path may be open to by name. Their ids are stored in one row (128 KiB).
pub const MAX_ALLOWED_PEERS: usize = 4_096;
