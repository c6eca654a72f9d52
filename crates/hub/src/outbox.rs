//! A client's bounded queue of outgoing frames: what its socket would not take.
//!
//! Deliveries push, the client's task drains on write readiness. Chunks are whole frames, shared
//! with the other clients that wait for the same ones. Empty, it holds no memory.
//!
//! Pure: it says what to write and is told what was taken.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use smallvec::SmallVec;
use tidewire_wire::ws::frame::FrameHeader;

/// Frames that wait for a client, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// None is empty, each begins with a frame and ends with one.
    chunks: VecDeque<Bytes>,
    /// Bytes of the first chunk that the client has.
    taken: usize,
    /// Bytes that wait, in all chunks.
    bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// The memory that they take: a client that makes us send it a byte at a time must not hold a
    /// hundred times of what it seems to.
    pub(crate) fn cost(&self) -> usize {
        let chunks = self.0.as_ref().map_or(0, |queue| queue.chunks.len());
        self.bytes() + chunks * CHUNK_COST
    }

    /// Adds whole frames, of which the client has the first `taken` bytes already. That may only be
    /// when nothing waits.
    pub(crate) fn push(&mut self, chunk: Bytes, taken: usize) {
        debug_assert!(taken == 0 || self.is_empty(), "bytes are taken in their order");
        debug_assert!(taken <= chunk.len(), "what was taken is of the chunk");
        if taken == chunk.len() {
            return;
        }
        let (chunk, taken) = trim(chunk, taken);
        let queue = self.0.get_or_insert_default();
        queue.bytes += chunk.len() - taken;
        if queue.chunks.is_empty() {
            queue.taken = taken;
        }
        queue.chunks.push_back(chunk);
        queue.check_invariants();
    }

    /// The bytes to write next, oldest first.
    pub(crate) fn slices(&self) -> SmallVec<[IoSlice<'_>; SLICES_MAX]> {
        let Some(queue) = &self.0 else { return SmallVec::new() };
        let mut skip = queue.taken;
        let chunks = queue.chunks.iter().take(SLICES_MAX);
        chunks.map(|chunk| IoSlice::new(&chunk[std::mem::take(&mut skip)..])).collect()
    }

    /// The client has `count` more bytes. Gives the memory back with the last of them.
    pub(crate) fn consume(&mut self, count: usize) {
        let Some(queue) = &mut self.0 else { return debug_assert!(count == 0) };
        queue.bytes -= count;
        queue.taken += count;
        while let Some(first) = queue.chunks.front() {
            if queue.taken < first.len() {
                break;
            }
            queue.taken -= first.len();
            queue.chunks.pop_front();
        }
        queue.check_invariants();
        if queue.chunks.is_empty() {
            self.0 = None;
        }
    }

    /// Drops all but the rest of a frame that the client has a part of: something may follow then.
    pub(crate) fn cut(&mut self) {
        let Some(mut queue) = self.0.take() else { return };
        if queue.taken == 0 {
            return;
        }
        let first = queue.chunks.pop_front().expect("a queue has a chunk");
        let end = frame_around(&first, queue.taken).1;
        // A copy, so that the rest of a shared chunk is given back.
        self.push(Bytes::copy_from_slice(&first[..end]), queue.taken);
    }
}

impl Queue {
    fn check_invariants(&self) {
        debug_assert_eq!(
            self.bytes + self.taken,
            self.chunks.iter().map(Bytes::len).sum::<usize>(),
            "bytes that wait are those of the chunks that were not taken"
        );
        debug_assert!(self.chunks.front().is_none_or(|first| self.taken < first.len()));
    }
}

/// Drops the frames of `chunk` that were taken whole. A small rest of a big chunk is copied, as it
/// would hold all of the chunk's memory for as long as its client is slow.
fn trim(chunk: Bytes, taken: usize) -> (Bytes, usize) {
    let start = if taken == 0 { 0 } else { frame_around(&chunk, taken).0 };
    let rest = chunk.slice(start..);
    match rest.len() < chunk.len() / 4 {
        true => (Bytes::copy_from_slice(&rest), taken - start),
        false => (rest, taken - start),
    }
}

/// The bounds of the frame that has the byte before `at`, in `frames` that are ours and whole; both
/// are `at` when a frame ends there.
fn frame_around(frames: &[u8], at: usize) -> (usize, usize) {
    let mut start = 0;
    while start < at {
        let Ok(Some((header, header_bytes))) = FrameHeader::parse(&frames[start..]) else {
            debug_assert!(false, "our own frames can be parsed");
            return (start, frames.len());
        };
        let end = start + header_bytes + header.length as usize;
        if end > at {
            return (start, end);
        }
        start = end;
    }
    (at, at)
}

/// What a chunk takes beside its bytes: its place here, its counts, its own allocation.
const CHUNK_COST: usize = 128;

/// The most chunks in one write.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tidewire_wire::ws::frame::{Opcode, encode_frame};

    use super::*;

    fn frames(lengths: &[usize]) -> Bytes {
        let mut out = BytesMut::new();
        for &length in lengths {
            encode_frame(Opcode::Binary, &vec![length as u8; length], &mut out);
        }
        out.freeze()
    }

    fn waiting(outbox: &Outbox) -> Vec<u8> {
        let Some(queue) = &outbox.0 else { return Vec::new() };
        queue.chunks.iter().flatten().copied().skip(queue.taken).collect()
    }

    #[test]
    fn an_empty_outbox_holds_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(frames(&[3]), 5);
        assert!(outbox.is_empty());
        outbox.push(frames(&[3]), 1);
        outbox.consume(4);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
        assert_eq!(std::mem::size_of::<Outbox>(), 8);
    }

    #[test]
    fn a_cut_leaves_the_frame_that_has_begun() {
        for taken in 0..frames(&[3, 4]).len() {
            let mut outbox = Outbox::default();
            outbox.push(frames(&[3, 4]), taken);
            outbox.push(frames(&[5]), 0);
            outbox.cut();
            let begun = match taken {
                0 | 5 => &[][..],
                1..5 => &frames(&[3])[taken..],
                _ => &frames(&[3, 4])[taken..],
            };
            assert_eq!(waiting(&outbox), begun, "{taken}");
            assert_eq!(outbox.bytes(), begun.len());
        }
    }

    #[test]
    fn small_chunks_cost_what_they_take() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.cost(), 0);
        (0..1000).for_each(|_| outbox.push(frames(&[0]), 0));
        assert_eq!((outbox.bytes(), outbox.cost()), (2000, 2000 + 128_000));
        outbox.consume(2000);
        assert_eq!(outbox.cost(), 0);
    }

    #[test]
    fn a_small_rest_does_not_hold_a_big_chunk() {
        let big = frames(&[60_000, 100]);
        let mut outbox = Outbox::default();
        outbox.push(big.clone(), big.len() - 50);
        assert!(big.is_unique());
        assert_eq!(waiting(&outbox), &big[big.len() - 50..]);
    }

    /// Random pushes, writes and cuts against a plain string of bytes.
    #[test]
    fn what_comes_out_is_what_went_in() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut outbox = Outbox::default();
            let mut model: Vec<u8> = Vec::new();
            for _ in 0..200 {
                if random.u8(..) < 128 {
                    let lengths: Vec<_> =
                        (0..random.usize(1..5)).map(|_| random.usize(0..300)).collect();
                    let chunk = frames(&lengths);
                    let taken = if model.is_empty() { random.usize(0..=chunk.len()) } else { 0 };
                    model.extend_from_slice(&chunk[taken..]);
                    outbox.push(chunk, taken);
                } else {
                    let slices = outbox.slices();
                    let flat: Vec<u8> = slices.iter().flat_map(|it| it.iter()).copied().collect();
                    assert_eq!(flat, model[..flat.len()], "seed {seed}");
                    assert!(model.is_empty() == flat.is_empty(), "seed {seed}");
                    let count = random.usize(0..=flat.len());
                    drop(slices);
                    outbox.consume(count);
                    model.drain(..count);
                }
                assert_eq!(outbox.bytes(), model.len(), "seed {seed}");
                assert_eq!(outbox.is_empty(), model.is_empty(), "seed {seed}");
            }
            assert_eq!(waiting(&outbox), model, "seed {seed}");
        }
    }
}
