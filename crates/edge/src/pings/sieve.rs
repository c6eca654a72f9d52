//! Takes the answers to our pings out of what a peer says.
//!
//! A pong of ours is known by its payload: four random bytes of this peer and the number of the
//! ping. A frame that may be one is held back until it is there as a whole, 13 bytes at most, and put
//! in front of the next read. Only headers are looked at, and nothing is copied but what is behind
//! a pong in the same read.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidewire_runtime::pump::HEADROOM;
use tidewire_wire::ws::cursor::Cursor;

use super::encode_ping;

/// Takes our pongs out of one direction.
#[derive(Debug)]
pub(crate) struct Sieve {
    sign: u32,
    /// The number of the last ping.
    number: u32,
    /// When it was sent; none once it is answered.
    sent: Option<Instant>,
    round_trip: Option<Duration>,
    /// Whether this peer masks what it says.
    is_masked: bool,
    /// Whether it has pinged the other side.
    has_pinged: bool,
    held: [u8; HEADROOM],
    held_bytes: u8,
    /// Bytes that were taken out.
    taken_out: u64,
}

/// What a frame is, as far as it is there.
enum Found {
    Other,
    Ours(usize),
    /// It may be ours: its end is not there.
    Cut,
}

impl Sieve {
    pub(super) fn new(sign: u32, is_masked: bool) -> Self {
        Self {
            sign,
            number: 0,
            sent: None,
            round_trip: None,
            is_masked,
            has_pinged: false,
            held: [0; HEADROOM],
            held_bytes: 0,
            taken_out: 0,
        }
    }

    /// What the peer has said before anybody was pinged: nothing of it is an answer.
    pub(super) fn see(&mut self, mut said: &[u8]) {
        let mut cursor = Cursor::new();
        while !said.is_empty() {
            self.has_pinged |= cursor.is_at_boundary() && said[0] == PING;
            said = &said[cursor.advance_frame(said)..];
        }
    }

    /// The next ping for the peer. Who masks gets no masked frames, and the other way round.
    pub(super) fn ping(&mut self, now: Instant) -> BytesMut {
        self.number = self.number.wrapping_add(1);
        self.sent = Some(now);
        let mask = (!self.is_masked).then(|| fastrand::u32(..).to_ne_bytes());
        encode_ping(&payload(self.sign, self.number), mask)
    }

    /// How many of the bytes that were read have not been passed on.
    pub(super) fn kept(&self) -> u64 {
        self.taken_out + u64::from(self.held_bytes)
    }

    /// Whether the peer has pinged the other side since this was asked last.
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.has_pinged)
    }

    /// How long the answer took, if one has come since this was asked last.
    pub(super) fn take_round_trip(&mut self) -> Option<Duration> {
        self.round_trip.take()
    }

    /// Puts what was held back in front of what is in `buffer` at `read`, and says where the two
    /// together are.
    pub(crate) fn rejoin(&mut self, buffer: &mut [u8], read: Range<usize>) -> Range<usize> {
        let held = usize::from(std::mem::take(&mut self.held_bytes));
        debug_assert!(held <= read.start, "who looks at frames behind this one holds nothing now");
        let start = read.start - held;
        buffer[start..read.start].copy_from_slice(&self.held[..held]);
        start..read.end
    }

    /// Takes our pongs out of what is in `buffer` at `all`, and says where the rest is. `cursor` is
    /// where the direction was before it.
    pub(crate) fn sift(
        &mut self,
        cursor: &Cursor,
        buffer: &mut [u8],
        all: Range<usize>,
    ) -> Range<usize> {
        let mut cursor = cursor.clone();
        let (mut at, mut end) = (all.start, all.start);
        while at < all.end {
            if cursor.is_at_boundary() {
                match self.look(&buffer[at..all.end]) {
                    Found::Other => {}
                    Found::Ours(length) => {
                        at += length;
                        self.taken_out += length as u64;
                        continue;
                    }
                    Found::Cut => {
                        let rest = &buffer[at..all.end];
                        self.held[..rest.len()].copy_from_slice(rest);
                        self.held_bytes = rest.len() as u8;
                        break;
                    }
                }
            }
            let length = cursor.advance_frame(&buffer[at..all.end]);
            if end != at {
                buffer.copy_within(at..at + length, end);
            }
            at += length;
            end += length;
        }
        all.start..end
    }

    /// What the frame is that `bytes`, of which there is one at least, begin with.
    #[inline]
    fn look(&mut self, bytes: &[u8]) -> Found {
        match bytes[0] {
            PONG => self.look_at_pong(bytes),
            PING => {
                self.has_pinged = true;
                Found::Other
            }
            _ => Found::Other,
        }
    }

    fn look_at_pong(&mut self, bytes: &[u8]) -> Found {
        if self.number == 0 {
            return Found::Other;
        }
        let (mask_bit, mask_bytes) = if self.is_masked { (MASK_BIT, 4) } else { (0, 0) };
        let Some(second) = bytes.get(1) else { return Found::Cut };
        if *second != PAYLOAD_BYTES as u8 | mask_bit {
            return Found::Other;
        }
        let Some((mask, said)) = bytes[2..].split_at_checked(mask_bytes) else { return Found::Cut };
        let unmasked = |(at, byte): (usize, &u8)| byte ^ mask.get(at % 4).copied().unwrap_or(0);
        let mut payload = [0; PAYLOAD_BYTES];
        let there = said.len().min(PAYLOAD_BYTES);
        for (place, byte) in payload.iter_mut().zip(said.iter().enumerate().map(unmasked)) {
            *place = byte;
        }
        let sign = self.sign.to_be_bytes();
        if payload[..there.min(4)] != sign[..there.min(4)] {
            return Found::Other;
        }
        if there < PAYLOAD_BYTES {
            return Found::Cut;
        }
        let [.., a, b, c, d] = payload;
        let number = u32::from_be_bytes([a, b, c, d]);
        if number == 0 || number > self.number {
            return Found::Other;
        }
        if number == self.number {
            self.round_trip = self.sent.take().map(|sent| sent.elapsed());
        }
        Found::Ours(2 + mask_bytes + PAYLOAD_BYTES)
    }
}

fn payload(sign: u32, number: u32) -> [u8; PAYLOAD_BYTES] {
    (u64::from(sign) << 32 | u64::from(number)).to_be_bytes()
}

/// The first byte of a whole ping, and of a whole pong, without reserved bits.
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const MASK_BIT: u8 = 0x80;
const PAYLOAD_BYTES: usize = 8;

const _: () = assert!(2 + 4 + PAYLOAD_BYTES - 1 <= HEADROOM, "what is held fits before a read");

#[cfg(test)]
mod tests {
    use tidewire_wire::ws::frame::{Opcode, encode_frame, encode_frame_masked};

    use super::*;

    fn frame(is_masked: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        match is_masked {
            true => encode_frame_masked(opcode, payload, [0x8A, 0x89, 0, 8], &mut out),
            false => encode_frame(opcode, payload, &mut out),
        }
        out.to_vec()
    }

    fn pinging(is_masked: bool, pings: u32) -> Sieve {
        let mut sieve = Sieve::new(0x8A08_8A08, is_masked);
        for _ in 0..pings {
            sieve.ping(Instant::now());
        }
        sieve
    }

    /// What passes of `pieces`, and how many bytes are held in the end.
    fn passed<'p>(sieve: &mut Sieve, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
        let (mut cursor, mut out, mut read) = (Cursor::new(), Vec::new(), 0);
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let mut buffer = [vec![0xEE; HEADROOM], piece.to_vec()].concat();
            let all = sieve.rejoin(&mut buffer, HEADROOM..HEADROOM + piece.len());
            let rest = sieve.sift(&cursor, &mut buffer, all);
            cursor.advance(&buffer[rest.clone()]);
            out.extend_from_slice(&buffer[rest]);
            read += piece.len() as u64;
            assert_eq!(read - sieve.kept(), out.len() as u64, "what is kept is counted");
        }
        out
    }

    /// `said` comes whole, cut in two and in three at each byte, and byte by byte.
    #[track_caller]
    fn check(is_masked: bool, pings: u32, said: &[u8], expected: &[u8]) {
        let check = |pieces: Vec<&[u8]>| {
            let out = passed(&mut pinging(is_masked, pings), pieces.iter().copied());
            assert_eq!(out, expected, "{pieces:x?}");
        };
        for first in 0..=said.len() {
            for second in first..=said.len() {
                check(vec![&said[..first], &said[first..second], &said[second..]]);
            }
        }
        check(said.chunks(1).collect());
    }

    #[test]
    fn our_pong_is_taken_out_wherever_it_is_cut() {
        for is_masked in [true, false] {
            let frame = |opcode, payload: &[u8]| frame(is_masked, opcode, payload);
            let ours = frame(Opcode::Pong, &payload(0x8A08_8A08, 1));
            let hello = frame(Opcode::Text, b"\x8A\x08hello\x8A\x88");
            check(is_masked, 1, &ours, b"");
            check(
                is_masked,
                1,
                &[&hello[..], &ours, &hello].concat(),
                &[&hello[..], &hello].concat(),
            );
            // Between the fragments of a message, whose last is empty.
            let mut part = hello.clone();
            part[0] &= 0x7F;
            let last = frame(Opcode::Continuation, b"");
            let message = [&part[..], &last].concat();
            check(is_masked, 1, &[&part[..], &ours, &last].concat(), &message);
        }
    }

    #[test]
    fn what_is_like_our_pong_passes() {
        for is_masked in [true, false] {
            let pong = |payload: &[u8]| frame(is_masked, Opcode::Pong, payload);
            let ours = payload(0x8A08_8A08, 1);
            let others = [
                pong(b""),
                pong(b"\x8A\x08\x8A\x08"),
                pong(&payload(0x8A08_8A08, 0)),
                pong(&payload(0x8A08_8A08, 2)),
                pong(&payload(0x8A08_8A09, 1)),
                pong(&[&ours[..], b"!"].concat()),
                frame(is_masked, Opcode::Ping, &ours),
                frame(is_masked, Opcode::Binary, &pong(&ours)),
                frame(!is_masked, Opcode::Pong, &ours),
            ];
            for other in &others {
                check(is_masked, 1, other, other);
                check(is_masked, 1, &[&other[..], &pong(&ours)].concat(), other);
            }
            // Nothing was asked, so nothing is an answer.
            check(is_masked, 0, &pong(&ours), &pong(&ours));
        }
    }

    #[test]
    fn late_and_skipped_answers_are_ours_too() {
        let pong = |number| frame(true, Opcode::Pong, &payload(0x8A08_8A08, number));
        check(true, 3, &[pong(1), pong(2), pong(3)].concat(), b"");
        check(true, 3, &pong(3), b"");
        // One that comes twice is still nobody else's.
        check(true, 3, &[pong(3), pong(1), pong(3)].concat(), b"");
    }

    #[test]
    fn only_the_answer_to_the_last_ping_says_how_long_it_took_and_once() {
        let mut sieve = pinging(true, 2);
        let mut answers = |number| {
            let mut pong = frame(true, Opcode::Pong, &payload(0x8A08_8A08, number));
            let all = 0..pong.len();
            sieve.sift(&Cursor::new(), &mut pong, all);
            sieve.take_round_trip().is_some()
        };
        assert!(!answers(1), "it is an answer to another one");
        assert!(answers(2));
        assert!(!answers(2), "it has answered already");
    }

    #[test]
    fn what_was_said_before_is_looked_at_for_pings() {
        let check = |said: &[u8], expected| {
            let mut sieve = Sieve::new(1, false);
            sieve.see(said);
            assert_eq!(sieve.take_ping(), expected, "{said:x?}");
        };
        check(b"", false);
        check(&frame(false, Opcode::Text, b"\x89\x00"), false);
        check(&frame(false, Opcode::Ping, b""), true);
        check(&[frame(false, Opcode::Text, b"a"), frame(false, Opcode::Ping, b"")].concat(), true);
    }

    #[test]
    fn a_peers_own_pings_are_seen_and_pass() {
        let mut sieve = pinging(true, 1);
        let ping = frame(true, Opcode::Ping, b"there?");
        assert_eq!(passed(&mut sieve, [&ping[..]]), ping);
        assert!(sieve.take_ping());
        assert!(!sieve.take_ping());
    }

    #[test]
    fn a_stream_that_is_lost_passes_as_it_is() {
        let ours = frame(false, Opcode::Pong, &payload(0x8A08_8A08, 1));
        let lost = [b"\x82\x7F\x80\0\0\0\0\0\0\0".as_slice(), &ours].concat();
        check(false, 1, &lost, &lost);
    }

    /// Frames of all kinds in random order, cut at random: what comes out is what went in without
    /// our pongs.
    #[test]
    fn any_stream_comes_out_without_our_pongs() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let is_masked = random.bool();
            let (mut said, mut expected) = (Vec::new(), Vec::new());
            let mut number = 0;
            for _ in 0..random.usize(1..20) {
                let bytes: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
                let short = &bytes[..bytes.len().min(random.usize(0..20))];
                let other = match random.u8(0..6) {
                    0 => frame(is_masked, Opcode::Binary, &bytes),
                    1 => frame(is_masked, Opcode::Text, short),
                    2 => frame(is_masked, Opcode::Ping, short),
                    3 => frame(is_masked, Opcode::Pong, short),
                    _ if number == 9 => continue,
                    _ => {
                        number += 1;
                        let ours = payload(0x8A08_8A08, number);
                        said.extend(frame(is_masked, Opcode::Pong, &ours));
                        continue;
                    }
                };
                said.extend_from_slice(&other);
                expected.extend(other);
            }
            let mut pieces = Vec::new();
            let mut rest = &said[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(40)));
                pieces.push(piece);
                rest = after;
            }
            assert_eq!(passed(&mut pinging(is_masked, 10), pieces), expected, "seed {seed}");
        }
    }
}
