//! What can be written about a machine and its manager: the pairing, and the key-value store.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args as Arguments, Subcommand, ValueEnum};
use groundswell::{ClaimTicket, Cursor, SpaceName};

use super::Once;
use crate::peer_name::PeerName;

/// What a node is in the key-value store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A device with a key-value store, which it shares with the manager who claims it.
    Machine,
    /// Claims machines, and shares a key-value store with each.
    Manager,
    /// Neither: it publishes and follows, as the other two do as well.
    Peer,
}

/// Claim a machine for this manager: both sides show a PIN, and both persons say whether it is the same.
///
/// What is answered after a minute, or not at all, is a no. A machine that is this manager's already may be claimed
/// again, which changes nothing.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell claim TICKET                         with the ticket that `groundswell up` shows at the machine
  groundswell claim TICKET --yes --json            {\"pin\":\"042137\",\"machine\":ID}
                                                   {\"claimed\":true,\"machine\":ID}

At the machine, `groundswell claims` has to run, or somebody to have opened pairing on its dashboard or by its button;
else it refuses. A ticket of `groundswell claims --ticket` opens it for the one who has the ticket.")]
pub(crate) struct Claim {
    /// The machine's ticket.
    #[arg(value_name = "TICKET")]
    pub(crate) ticket: ClaimTicket,

    /// Say yes without a look at the PIN: only where nobody can be between the two.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Open this machine for claims, wait until a manager claims it, show the PIN, and answer.
///
/// A machine takes claims only while this runs, or after somebody has opened pairing on its dashboard or by its button. Claims
/// that were in vain before are forgiven by it.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell claims
  groundswell claims --yes --json                  {\"pin\":\"042137\",\"manager\":ID}
                                                   {\"claimed\":true,\"manager\":ID}
  groundswell claims --ticket                      prints a ticket with a one-time secret, for the manager alone
                                                   who is to claim this machine; nobody else is let in")]
pub(crate) struct Claims {
    /// Do not open the machine for all: print a ticket whose one-time secret lets in who has it, for an hour and one pair,
    /// whether this command runs or not.
    #[arg(long)]
    pub(crate) ticket: bool,

    /// Say yes without a look at the PIN: only where nobody can be between the two.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Print the machines of this manager: who is there, since when not, and how current what is here is.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell machines
  groundswell machines --json     {\"machine\":ID,\"link\":\"online\",\"current\":true,…}")]
pub(crate) struct Machines {}

/// End a pairing: of this machine with its manager, or of this manager with a machine.
///
/// The machine keeps its keys and values, and its next manager gets them; with --wipe it deletes them. The former manager
/// gets nothing new. A manager that releases a machine deletes what it had of it.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell release                at a machine
  groundswell release --wipe         at a machine that is sold
  groundswell release MACHINE-ID     at a manager")]
pub(crate) struct Release {
    /// The machine, by its id or the beginning of it; at a manager.
    #[arg(value_name = "ID")]
    pub(crate) machine: Option<PeerName>,
    /// Delete all keys and values of this machine too; also of one that has no manager. What it publishes stays.
    #[arg(long)]
    pub(crate) wipe: bool,
}

/// Read, write and follow the keys and values that a machine and its manager share.
///
/// A key that is UTF-8 is printed as `key`, any other as `key_hex`; values likewise. With --hex both
/// always are.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv set price/cola 250 --machine ID     at a manager
  groundswell kv watch price/cola                    at the machine
  groundswell kv subscribe --all --json              at a manager: everything of all its machines")]
pub(crate) struct Kv {
    #[command(subcommand)]
    pub(crate) command: KvCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    Get(KvGet),
    Set(KvSet),
    Del(KvDel),
    Ls(KvLs),
    Delivered(KvDelivered),
    Watch(KvWatch),
    Subscribe(KvSubscribe),
}

/// Whose keys are meant, and how bytes are written.
#[derive(Debug, Arguments)]
pub(crate) struct Place {
    /// At a manager: the machine, by its id or the beginning of it.
    #[arg(long, value_name = "ID")]
    pub(crate) machine: Option<PeerName>,

    /// The space; an application may have some beside the one without a name.
    #[arg(long, value_name = "NAME", value_parser = space)]
    pub(crate) space: Option<SpaceName>,

    /// Keys, prefixes and values are in hexadecimal, on the command line and in what is printed.
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Print the value of a key. Without a value the status is 1.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv get price/cola
  groundswell kv get price/cola --machine ID --json     {\"key\":\"price/cola\",\"value\":\"250\",\"author\":\"manager\",\"timestamp\":…}
  groundswell kv get picture --file picture.png
  groundswell kv get picture --file - | sha256sum     the bytes as they are

A value that is no text, or has characters that are not seen, is printed as `hex:` and its bytes; --file and --json
have it exactly.")]
pub(crate) struct KvGet {
    /// The key.
    pub(crate) key: OsString,

    /// Write the value's bytes to this file, and print how many they are; `-` is standard output, on which there is
    /// nothing else then.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Give a key a value, and print the entry once it is durable here. The other side gets it by itself.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv set stock/cola 12
  groundswell kv set price/cola 250 --machine ID
  groundswell kv set ff00 cafe --hex
  groundswell kv set picture --file picture.png
  groundswell kv set note -- '-a value that begins with -'

A value is the bytes that are given: `-` is a value as any other, and --file - is standard input. With --file, what is
printed has the size of the value in its place.")]
pub(crate) struct KvSet {
    /// The key: up to 1,024 bytes, or none.
    pub(crate) key: OsString,

    /// The value: up to 1 MiB, or nothing.
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_negative_numbers = true)]
    pub(crate) value: Option<OsString>,

    /// Take the value's bytes from this file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) once: Once,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Delete a key, and print whether it had a value.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv del price/cola
  groundswell kv del price/cola --json     {\"deleted\":true}")]
pub(crate) struct KvDel {
    /// The key.
    pub(crate) key: OsString,

    #[command(flatten)]
    pub(crate) once: Once,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Print the entries, in the order of their keys.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv ls
  groundswell kv ls --prefix price/ --machine ID --json")]
pub(crate) struct KvLs {
    /// Only those whose keys begin with this.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) prefix: Option<OsString>,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Wait until everything that was written on this side, in any space, is at the other too: durable there, and seen.
///
/// What was written goes there by itself, whether somebody waits or not. After a start of this node it is known once the
/// other side was reached.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv set price/cola 250 --machine ID
  groundswell kv delivered --machine ID --within 10
  groundswell kv delivered --json     {\"delivered\":true}")]
pub(crate) struct KvDelivered {
    /// At a manager: the machine, by its id or the beginning of it.
    #[arg(long, value_name = "ID")]
    pub(crate) machine: Option<PeerName>,

    /// Wait no longer than this; the status is 1 if it is not there by then. Without it, for as long as it takes.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) within: Option<u64>,
}

/// Follow one key: print its value, then each change. The absence of the other side does not end it.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv watch price/cola
  groundswell kv watch price/cola --json --count 1 --cursor CURSOR     the next one after an earlier line")]
pub(crate) struct KvWatch {
    /// The key.
    pub(crate) key: OsString,

    #[command(flatten)]
    pub(crate) following: Following,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Follow all entries, or those whose keys begin alike.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell kv subscribe --prefix price/
  groundswell kv subscribe --all --json     at a manager: each line has its machine's id

A line an event: put, delete, caught_up, reset (forget what you have; the present state follows), gone (with
--all: the machine is not this manager's any more), and at last ended.")]
pub(crate) struct KvSubscribe {
    /// Only keys that begin with this.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) prefix: Option<OsString>,

    /// At a manager: of all its machines, those that are claimed later included.
    #[arg(long, conflicts_with_all = ["machine", "space", "cursor"])]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) following: Following,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// Show entries and machines as they are, and as they change, in a table on the terminal.
///
/// At a manager it is of all its machines, those that are claimed later included, or of one. It goes on by itself when
/// the node was stopped or killed and is back, and shows meanwhile that it was not there. With --json, or where the
/// output is no terminal, it prints a line a change, and ends with the node.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell watch
  groundswell watch --prefix stock/
  groundswell watch --machine ID
  groundswell watch --json | jq 'select(.type == \"pair\")'

Keys: arrows, PgUp, PgDn, Home and End choose an entry, whose whole value is shown below; / filters the lines by what
is typed; Esc closes the entry, then ends the filter; q leaves.

With --json: node (its id and role), pair (how one stands, at the beginning and when that changes), and the lines of
`kv subscribe`.")]
pub(crate) struct Watch {
    /// Only keys that begin with this.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) prefix: Option<OsString>,

    #[command(flatten)]
    pub(crate) place: Place,
}

/// From where something is followed, and how far.
#[derive(Debug, Arguments)]
pub(crate) struct Following {
    /// Go on after the line that had this cursor. After a restart of the node there is a reset first.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<Cursor>,

    /// End after so many entries that were put, deleted or left.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

fn space(text: &str) -> Result<SpaceName, String> {
    SpaceName::new(text).map_err(|error| error.to_string())
}
