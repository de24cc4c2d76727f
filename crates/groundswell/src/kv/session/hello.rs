//! The hellos with which a session of a document begins.

use groundswell_core::{
    encoding::decode,
    kv::wire::{Held, KvHello, encode_kv_frame, max_kv_frame_bytes},
    wire::StreamKind,
};
use iroh::endpoint::{Connection, SendStream};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{End, ends::lost, oversized};
use crate::{
    frames::{FrameReader, ReadFrameError},
    kv::{
        Kv,
        document::{Document, Identity},
    },
    limits::HELLO_TIMEOUT,
    network::CloseCode,
};

/// Streams of documents are written before those of subscriptions, so that no key waits for a rock.
const PRIORITY: i32 = 1;

/// A stream on which the other side has said hello.
pub(crate) struct Greeted {
    pub(super) send: SendStream,
    pub(super) reader: FrameReader,
    pub(super) hello: KvHello,
    /// This side has said that it holds none of its own entries.
    pub(super) agrees_first: bool,
    /// Held by the side that answers, until the session has its place.
    pub(super) answering: Option<OwnedMutexGuard<()>>,
}

/// Opens the stream of a document on a connection. Both sides have said hello on it then.
pub(crate) async fn open(
    kv: &Kv,
    document: &Document,
    identity: &Identity,
    connection: &Connection,
) -> Result<Greeted, End> {
    let opening = async {
        let (mut send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut reader = FrameReader::new(recv, max_kv_frame_bytes(kv.max_value_bytes));
        // It may be closed already, as with a stream that has ended.
        let _ = send.set_priority(PRIORITY);
        send.write_all(&[StreamKind::Document.byte()]).await?;
        let agrees_first = say_hello(kv, document, identity, &mut send).await?;
        match hear(&mut reader).await {
            Ok(hello) => Ok(Greeted { send, reader, hello, agrees_first, answering: None }),
            Err(Unheard::Ended(code)) => Err(End::refused(code)),
            Err(Unheard::Malformed) => {
                CloseCode::Hello.end(&mut send, &mut reader);
                Err(End::Refused(CloseCode::Hello.reason()))
            }
        }
    };
    // A side that does not answer may be about to start, or has no stream to spare.
    timeout(HELLO_TIMEOUT, opening).await.unwrap_or_else(|_| Err(End::Refused(CloseCode::Hello.reason())))
}

/// Says hello. Returns whether this side has said that it holds none of its own entries, since it went back.
pub(super) async fn say_hello(
    kv: &Kv,
    document: &Document,
    identity: &Identity,
    send: &mut SendStream,
) -> Result<bool, End> {
    let (agrees_first, mut held) = (document.agrees_first(), held(document));
    if agrees_first {
        held.clear(document.ours);
    }
    let hello = KvHello {
        document: *identity.namespace.as_bytes(),
        wall_ms: (kv.wall_clock)(),
        held,
        extension: oversized::extension(kv.max_value_bytes, kv.budget.document),
    };
    let mut frame = Vec::new();
    encode_kv_frame(kv.max_value_bytes, &hello, &mut frame).map_err(|error| End::Failed(error.to_string()))?;
    // It may be closed already, as with a stream that has ended.
    let _ = send.set_priority(PRIORITY);
    send.write_all(&frame).await?;
    Ok(agrees_first)
}

pub(super) fn held(document: &Document) -> Held {
    let [machine, manager] = *document.heads.borrow();
    Held { machine, manager }
}

/// The reason for which the other side's hello leads to no session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unheard {
    /// The stream has ended, with this code where the other side has chosen one.
    Ended(Option<CloseCode>),
    /// It is no valid hello.
    Malformed,
}

pub(super) async fn hear(reader: &mut FrameReader) -> Result<KvHello, Unheard> {
    let body = reader.next().await.map_err(|error| match error {
        ReadFrameError::Stream(_) | ReadFrameError::Ended => Unheard::Ended(error.code()),
        ReadFrameError::Cut | ReadFrameError::Frame(_) => Unheard::Malformed,
    })?;
    decode(&body).map_err(|_| Unheard::Malformed)
}
