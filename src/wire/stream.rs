//! Requests and replies as frames, and frames as requests and replies.
//!
//! Encoding appends frames to a queue, small files packed together; decoding takes frames one at
//! a time and checks that raw data comes only where a message has begun some.

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::WireError;
use super::bounded::{Blob, List};
use super::frame::{FRAME_BYTES_MAX, Frame, FrameKind};
use super::message::{
    Ack, Answer, CHUNK_BYTES_MAX, Call, Content, Facts, FileHead, Job, OPS_MAX, Op, Open, PartHead,
    Parted, Piece, Reply, Request, SIGNATURE_BYTES_MAX, ScanSpec, Store, Told, Verdict,
};
use super::names::NAMES_CHUNK_BYTES;
use super::path::RelPath;
use super::tree::{Digest, Failure, GroupHead, Meta, ShardHead};

/// A pack is sent when it has this many bytes.
const PACK_BYTES: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
enum RequestHead {
    Open(Open),
    Scan(ScanSpec),
    Verdict(Verdict),
    Read { ticket: u64, path: RelPath, signature_bytes: Option<u64> },
    Begin { ticket: u64, path: RelPath, head: FileHead },
    End { digest: Digest },
    Abort,
    Flush,
    Apply(List<Op, OPS_MAX>),
    Call(Call),
    ReadPart { ticket: u64, path: RelPath, index: u32 },
    Part { ticket: u64, file: Parted, index: u32 },
    Join { ticket: u64, file: Parted, meta: Meta },
    Drop(Parted),
    Names(Blob<NAMES_CHUNK_BYTES>),
    Settle(List<Op, OPS_MAX>),
}

#[derive(Serialize, Deserialize)]
enum ReplyHead {
    Opened(Result<Facts, Failure>),
    Group(GroupHead),
    Shard(ShardHead),
    Content(Content),
    ScanEnd,
    Begin {
        ticket: u64,
        head: FileHead,
    },
    End {
        ticket: u64,
        digest: Digest,
    },
    Failed {
        ticket: u64,
        failure: Failure,
    },
    Ack(Ack),
    /// Of a stream that stores.
    Done(List<Result<(), Failure>, OPS_MAX>),
    /// Of a stream of calls.
    Applied(List<Result<(), Failure>, OPS_MAX>),
    Signature(Result<u64, Failure>),
    Synced(Result<(), Failure>),
    Fatal(Failure),
    Part {
        ticket: u64,
        head: PartHead,
    },
    Settled(List<Result<(), Failure>, OPS_MAX>),
}

#[derive(Serialize, Deserialize)]
struct StoreWhole {
    ticket: u64,
    path: RelPath,
    meta: Meta,
    digest: Digest,
    size: u32,
}

#[derive(Serialize, Deserialize)]
struct PieceWhole {
    ticket: u64,
    meta: Meta,
    digest: Digest,
    size: u32,
}

/// Collects frames to send; small files wait in it until they fill a pack.
#[derive(Debug, Default)]
pub struct FrameQueue {
    frames: Vec<Frame>,
    pack: BytesMut,
}

impl FrameQueue {
    /// The frames that are full, in order. With `flush` also the pack that is not.
    pub fn take(&mut self, flush: bool) -> Vec<Frame> {
        if flush {
            self.end_pack();
        }
        std::mem::take(&mut self.frames)
    }

    fn end_pack(&mut self) {
        if !self.pack.is_empty() {
            self.frames.push(Frame::new(FrameKind::Pack, self.pack.split()));
        }
    }

    fn message(&mut self, head: &impl Serialize) -> Result<(), WireError> {
        self.end_pack();
        let body = postcard::to_stdvec(head)?;
        if body.len() >= FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLong { bytes: body.len() as u64 });
        }
        self.frames.push(Frame::new(FrameKind::Message, body));
        Ok(())
    }

    fn data(&mut self, mut bytes: Bytes) {
        self.end_pack();
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            self.frames.push(Frame::new(FrameKind::Data, part));
        }
    }

    fn pack(&mut self, head: &impl Serialize, content: &[u8]) -> Result<(), WireError> {
        let head = postcard::to_stdvec(head)?;
        if self.pack.len() + head.len() + content.len() > PACK_BYTES {
            self.end_pack();
        }
        self.pack.extend_from_slice(&head);
        self.pack.extend_from_slice(content);
        Ok(())
    }

    pub fn request(&mut self, request: Request) -> Result<(), WireError> {
        match request {
            Request::Open(open) => self.message(&RequestHead::Open(open)),
            Request::Names(bytes) => self.message(&RequestHead::Names(bytes)),
            Request::Scan(spec) => self.message(&RequestHead::Scan(spec)),
            Request::Verdict(verdict) => self.message(&RequestHead::Verdict(verdict)),
            Request::Read(Job { ticket, path, part: Some(index), .. }) => {
                self.message(&RequestHead::ReadPart { ticket, path, index })
            }
            Request::Read(Job { ticket, path, signature, part: None, .. }) => {
                let signature_bytes = signature.as_ref().map(|bytes| bytes.len() as u64);
                self.message(&RequestHead::Read { ticket, path, signature_bytes })?;
                self.data(signature.unwrap_or_default());
                Ok(())
            }
            Request::Store(store) => self.store(store),
            Request::Call(call) => self.message(&RequestHead::Call(call)),
        }
    }

    fn store(&mut self, store: Store) -> Result<(), WireError> {
        match store {
            Store::Apply(ops) => self.message(&RequestHead::Apply(ops)),
            Store::Settle(ops) => self.message(&RequestHead::Settle(ops)),
            Store::Whole { ticket, path, meta, digest, content } => {
                let size = content.len() as u32;
                self.pack(&StoreWhole { ticket, path, meta, digest, size }, &content)
            }
            Store::Begin { ticket, path, head } => {
                self.message(&RequestHead::Begin { ticket, path, head })
            }
            Store::Chunk(bytes) => {
                self.data(bytes);
                Ok(())
            }
            Store::End { digest } => self.message(&RequestHead::End { digest }),
            Store::Abort => self.message(&RequestHead::Abort),
            Store::Flush => self.message(&RequestHead::Flush),
            Store::Part { ticket, file, index } => {
                self.message(&RequestHead::Part { ticket, file, index })
            }
            Store::Join { ticket, file, meta } => {
                self.message(&RequestHead::Join { ticket, file, meta })
            }
            Store::Drop(file) => self.message(&RequestHead::Drop(file)),
        }
    }

    pub fn reply(&mut self, reply: Reply) -> Result<(), WireError> {
        match reply {
            Reply::Opened(result) => self.message(&ReplyHead::Opened(result)),
            Reply::Group(head) => self.message(&ReplyHead::Group(head)),
            Reply::Shard(head) => self.message(&ReplyHead::Shard(head)),
            Reply::Content(content) => self.message(&ReplyHead::Content(content)),
            Reply::ScanEnd => self.message(&ReplyHead::ScanEnd),
            Reply::Piece(piece) => self.piece(piece),
            Reply::Told(Told::Ack(ack)) => self.message(&ReplyHead::Ack(ack)),
            Reply::Told(Told::Applied(results)) => self.message(&ReplyHead::Done(List(results))),
            Reply::Told(Told::Settled(results)) => self.message(&ReplyHead::Settled(List(results))),
            Reply::Answer(Answer::Applied(results)) => {
                self.message(&ReplyHead::Applied(List(results)))
            }
            Reply::Answer(Answer::Signature(result)) => {
                let sized = result.as_ref().map(|bytes| bytes.len() as u64);
                self.message(&ReplyHead::Signature(sized.map_err(Failure::clone)))?;
                self.data(result.unwrap_or_default());
                Ok(())
            }
            Reply::Answer(Answer::Synced(result)) => self.message(&ReplyHead::Synced(result)),
            Reply::Fatal(failure) => self.message(&ReplyHead::Fatal(failure)),
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), WireError> {
        match piece {
            Piece::Whole { ticket, meta, digest, content } => {
                let size = content.len() as u32;
                self.pack(&PieceWhole { ticket, meta, digest, size }, &content)
            }
            Piece::Begin { ticket, head } => self.message(&ReplyHead::Begin { ticket, head }),
            Piece::Chunk(bytes) => {
                self.data(bytes);
                Ok(())
            }
            Piece::End { ticket, digest } => self.message(&ReplyHead::End { ticket, digest }),
            Piece::Failed { ticket, failure } => {
                self.message(&ReplyHead::Failed { ticket, failure })
            }
            Piece::Part { ticket, head } => self.message(&ReplyHead::Part { ticket, head }),
        }
    }
}

/// What the next data frames belong to.
#[derive(Debug, Default)]
enum Expect<H> {
    #[default]
    Nothing,
    /// The content of a file that has begun; its receiver checks how much there may be.
    File,
    /// Exactly so many more bytes of a signature.
    Signature { head: H, missing: u64, bytes: BytesMut },
}

impl<H> Expect<H> {
    fn signature(head: H, bytes: u64) -> Result<Self, WireError> {
        if bytes > SIGNATURE_BYTES_MAX {
            return Err(WireError::FrameTooLong { bytes });
        }
        Ok(Expect::Signature { head, missing: bytes, bytes: BytesMut::new() })
    }
}

/// Frames of the coordinator → requests.
#[derive(Debug, Default)]
pub struct RequestDecoder(Expect<(u64, RelPath)>);

/// Frames of a half → replies.
#[derive(Debug, Default)]
pub struct ReplyDecoder(Expect<()>);

impl RequestDecoder {
    /// Gives the requests that `frame` completes to `emit`.
    pub fn push(&mut self, frame: Frame, emit: &mut impl FnMut(Request)) -> Result<(), WireError> {
        match frame.kind {
            FrameKind::Hello => Err(WireError::OutOfTurn("a greeting")),
            FrameKind::Pack => unpack(
                frame.body,
                |head: StoreWhole, content| {
                    let StoreWhole { ticket, path, meta, digest, .. } = head;
                    emit(Request::Store(Store::Whole { ticket, path, meta, digest, content }));
                },
                |head| head.size,
            ),
            FrameKind::Data => match &mut self.0 {
                Expect::Nothing => Err(WireError::OutOfTurn("data")),
                Expect::File => {
                    emit(Request::Store(Store::Chunk(frame.body)));
                    Ok(())
                }
                Expect::Signature { head, missing, bytes } => {
                    if take_part(missing, bytes, &frame.body)? {
                        let (ticket, path) = head.clone();
                        let signature = Some(std::mem::take(bytes).freeze());
                        self.0 = Expect::Nothing;
                        emit(Request::Read(Job { ticket, path, size: 0, signature, part: None }));
                    }
                    Ok(())
                }
            },
            FrameKind::Message => self.message(message(&frame.body)?, emit),
        }
    }

    fn message(
        &mut self,
        head: RequestHead,
        emit: &mut impl FnMut(Request),
    ) -> Result<(), WireError> {
        if matches!(self.0, Expect::Signature { .. }) {
            return Err(WireError::OutOfTurn("a message"));
        }
        let request = match head {
            RequestHead::Open(open) => Request::Open(open),
            RequestHead::Names(bytes) => Request::Names(bytes),
            RequestHead::Scan(spec) => Request::Scan(spec),
            RequestHead::Verdict(verdict) => Request::Verdict(verdict),
            RequestHead::Read { ticket, path, signature_bytes: None | Some(0) } => {
                Request::Read(Job { ticket, path, size: 0, signature: None, part: None })
            }
            RequestHead::ReadPart { ticket, path, index } => {
                Request::Read(Job { ticket, path, size: 0, signature: None, part: Some(index) })
            }
            RequestHead::Read { ticket, path, signature_bytes: Some(bytes) } => {
                self.0 = Expect::signature((ticket, path), bytes)?;
                return Ok(());
            }
            RequestHead::Begin { ticket, path, head } => {
                self.0 = Expect::File;
                Request::Store(Store::Begin { ticket, path, head })
            }
            RequestHead::End { digest } => {
                self.0 = Expect::Nothing;
                Request::Store(Store::End { digest })
            }
            RequestHead::Abort => {
                self.0 = Expect::Nothing;
                Request::Store(Store::Abort)
            }
            RequestHead::Flush => Request::Store(Store::Flush),
            RequestHead::Apply(ops) => Request::Store(Store::Apply(ops)),
            RequestHead::Call(call) => Request::Call(call),
            RequestHead::Part { ticket, file, index } => {
                self.0 = Expect::File;
                Request::Store(Store::Part { ticket, file, index })
            }
            RequestHead::Join { ticket, file, meta } => {
                Request::Store(Store::Join { ticket, file, meta })
            }
            RequestHead::Drop(file) => Request::Store(Store::Drop(file)),
            RequestHead::Settle(ops) => Request::Store(Store::Settle(ops)),
        };
        emit(request);
        Ok(())
    }
}

impl ReplyDecoder {
    /// Gives the replies that `frame` completes to `emit`.
    pub fn push(&mut self, frame: Frame, emit: &mut impl FnMut(Reply)) -> Result<(), WireError> {
        match frame.kind {
            FrameKind::Hello => Err(WireError::OutOfTurn("a greeting")),
            FrameKind::Pack => unpack(
                frame.body,
                |head: PieceWhole, content| {
                    let PieceWhole { ticket, meta, digest, .. } = head;
                    emit(Reply::Piece(Piece::Whole { ticket, meta, digest, content }));
                },
                |head| head.size,
            ),
            FrameKind::Data => match &mut self.0 {
                Expect::Nothing => Err(WireError::OutOfTurn("data")),
                Expect::File => {
                    emit(Reply::Piece(Piece::Chunk(frame.body)));
                    Ok(())
                }
                Expect::Signature { head: (), missing, bytes } => {
                    if take_part(missing, bytes, &frame.body)? {
                        let signature = std::mem::take(bytes).freeze();
                        self.0 = Expect::Nothing;
                        emit(Reply::Answer(Answer::Signature(Ok(signature))));
                    }
                    Ok(())
                }
            },
            FrameKind::Message => self.message(message(&frame.body)?, emit),
        }
    }

    fn message(&mut self, head: ReplyHead, emit: &mut impl FnMut(Reply)) -> Result<(), WireError> {
        if matches!(self.0, Expect::Signature { .. }) {
            return Err(WireError::OutOfTurn("a message"));
        }
        let reply = match head {
            ReplyHead::Opened(result) => Reply::Opened(result),
            ReplyHead::Group(head) => Reply::Group(head),
            ReplyHead::Shard(head) => Reply::Shard(head),
            ReplyHead::Content(content) => Reply::Content(content),
            ReplyHead::ScanEnd => Reply::ScanEnd,
            ReplyHead::Begin { ticket, head } => {
                self.0 = Expect::File;
                Reply::Piece(Piece::Begin { ticket, head })
            }
            ReplyHead::End { ticket, digest } => {
                self.0 = Expect::Nothing;
                Reply::Piece(Piece::End { ticket, digest })
            }
            ReplyHead::Failed { ticket, failure } => {
                self.0 = Expect::Nothing;
                Reply::Piece(Piece::Failed { ticket, failure })
            }
            ReplyHead::Ack(ack) => Reply::Told(Told::Ack(ack)),
            ReplyHead::Done(results) => Reply::Told(Told::Applied(results.0)),
            ReplyHead::Settled(results) => Reply::Told(Told::Settled(results.0)),
            ReplyHead::Applied(results) => Reply::Answer(Answer::Applied(results.0)),
            ReplyHead::Signature(Ok(0)) => Reply::Answer(Answer::Signature(Ok(Bytes::new()))),
            ReplyHead::Signature(Ok(bytes)) => {
                self.0 = Expect::signature((), bytes)?;
                return Ok(());
            }
            ReplyHead::Signature(Err(failure)) => Reply::Answer(Answer::Signature(Err(failure))),
            ReplyHead::Synced(result) => Reply::Answer(Answer::Synced(result)),
            ReplyHead::Fatal(failure) => Reply::Fatal(failure),
            ReplyHead::Part { ticket, head } => {
                self.0 = Expect::File;
                Reply::Piece(Piece::Part { ticket, head })
            }
        };
        emit(reply);
        Ok(())
    }
}

fn message<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::OutOfTurn("trailing bytes")) }
}

fn unpack<H: DeserializeOwned>(
    mut body: Bytes,
    mut emit: impl FnMut(H, Bytes),
    size: impl Fn(&H) -> u32,
) -> Result<(), WireError> {
    while !body.is_empty() {
        let (head, rest) = postcard::take_from_bytes::<H>(&body)?;
        let head_bytes = body.len() - rest.len();
        let content_bytes = size(&head) as usize;
        if content_bytes > rest.len() {
            return Err(WireError::Truncated);
        }
        body.advance(head_bytes);
        emit(head, body.split_to(content_bytes));
    }
    Ok(())
}

/// Adds `part`; whether that was the last one.
fn take_part(missing: &mut u64, bytes: &mut BytesMut, part: &[u8]) -> Result<bool, WireError> {
    *missing = missing.checked_sub(part.len() as u64).ok_or(WireError::OutOfTurn("data"))?;
    bytes.extend_from_slice(part);
    Ok(*missing == 0)
}

#[cfg(test)]
mod tests;
