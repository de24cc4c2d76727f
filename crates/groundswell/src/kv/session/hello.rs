//! The hellos with which a session of a document begins.

use groundswell_core::{
    kv::wire::{Held, KV_PROTOCOL_VERSIONS, KvHello, encode_kv_frame},
    wire::{HelloError, VersionMismatch, decode_hello},
};
use iroh::endpoint::{Connection, SendStream};

use super::{KvCloseCode, oversized};
use crate::{
    frames::FrameReader,
    kv::{
        Kv,
        document::{Document, Identity},
    },
};

pub(super) async fn say_hello(
    kv: &Kv,
    document: &Document,
    identity: &Identity,
    send: &mut SendStream,
) -> Result<(), Unheard> {
    let hello = KvHello {
        versions: KV_PROTOCOL_VERSIONS,
        boot: kv.shared.boot,
        document: *identity.namespace.as_bytes(),
        wall_ms: (kv.wall_clock)(),
        held: held(document),
        extension: oversized::extension(kv.max_value_bytes),
    };
    let mut frame = Vec::new();
    encode_kv_frame(kv.max_value_bytes, &hello, &mut frame).map_err(|_| Unheard::Hello)?;
    send.write_all(&frame).await.map_err(|_| Unheard::Hello)
}

pub(super) fn held(document: &Document) -> Held {
    let [machine, manager] = *document.heads.borrow();
    Held { machine, manager }
}

/// Why the other side's hello leads to no session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unheard {
    /// The two sides speak no common version.
    Versions(VersionMismatch),
    /// There was no proper hello.
    Hello,
}

impl Unheard {
    pub(super) fn close(self, connection: &Connection) {
        match self {
            Self::Versions(mismatch) => {
                connection.close(KvCloseCode::Version.code(), mismatch.for_other_side().to_string().as_bytes());
            }
            Self::Hello => connection.close(KvCloseCode::Hello.code(), KvCloseCode::Hello.reason()),
        }
    }
}

pub(super) async fn hear(reader: &mut FrameReader) -> Result<KvHello, Unheard> {
    let body = reader.next().await.map_err(|_| Unheard::Hello)?;
    match decode_hello(KV_PROTOCOL_VERSIONS, &body) {
        // All that follows is the same in every version so far.
        Ok((hello, _version)) => Ok(hello),
        Err(HelloError::Versions(mismatch)) => Err(Unheard::Versions(mismatch)),
        Err(HelloError::Malformed(_)) => Err(Unheard::Hello),
    }
}
