//! A peer played through: it talks, answers late or only the last of several questions, is not read
//! for a while, is behind a full line, and dies; and what it says comes in any pieces.

use std::collections::VecDeque;
use std::ops::Range;

use tidewire_runtime::deadline::Tick;
use tidewire_runtime::pump::HEADROOM;
use tidewire_wire::ws::cursor::Cursor;
use tidewire_wire::ws::frame::{Opcode, encode_frame, encode_frame_masked};

use super::*;

const INTERVAL: Tick = 50;
const PONG: Tick = 20;
const SIGN: u32 = 0x8A08_8A08;

struct Play {
    seed: u64,
    random: fastrand::Rng,
    is_masked: bool,
    peer: Peer,
    cursor: Cursor,
    now: Tick,
    /// What the peer has said and nobody has read, and what of it is to pass.
    line: VecDeque<u8>,
    expected: Vec<u8>,
    passed: Vec<u8>,
    read: u64,
    /// When the peer answers which question.
    answers: Vec<(Tick, Vec<u8>)>,
    /// Questions of ours since it was heard last.
    open: u32,
    pings: u32,
    /// Since when it is silent, or not, for it was not read.
    silent_since: Tick,
    is_dead: bool,
}

/// How a peer is for a while.
#[derive(Clone, Copy)]
struct Mood {
    /// Of a hundred ticks, those in which it says something of its own.
    talks: u8,
    /// The ticks that an answer takes.
    answers_in: (Tick, Tick),
    /// Of a hundred, the ticks in which it is not read, or nothing can be put in.
    unread: u8,
    within: u8,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let is_masked = random.bool();
        let sieve = Sieve::new(SIGN, is_masked);
        let peer = Peer::new(Some(INTERVAL), random.f32(), sieve, 0, 0);
        Self {
            seed,
            random,
            is_masked,
            peer,
            cursor: Cursor::new(),
            now: 0,
            line: VecDeque::new(),
            expected: Vec::new(),
            passed: Vec::new(),
            read: 0,
            answers: Vec::new(),
            open: 0,
            pings: 0,
            silent_since: 0,
            is_dead: false,
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self.is_masked {
            true => {
                encode_frame_masked(opcode, payload, self.random.u32(..).to_ne_bytes(), &mut out)
            }
            false => encode_frame(opcode, payload, &mut out),
        }
        out.to_vec()
    }

    /// The peer says something of its own, perhaps something that is like an answer to us.
    fn talk(&mut self) {
        let bytes: Vec<u8> = (0..self.random.usize(0..200)).map(|_| self.random.u8(..)).collect();
        let short = bytes[..bytes.len().min(20)].to_vec();
        let like_ours =
            [&SIGN.to_be_bytes()[..], &self.random.u32(1 << 20..).to_be_bytes()].concat();
        let frame = match self.random.u8(0..5) {
            0 => self.frame(Opcode::Binary, &bytes),
            1 => self.frame(Opcode::Ping, &short),
            2 => self.frame(Opcode::Pong, &short),
            3 => self.frame(Opcode::Pong, &like_ours),
            _ => self.frame(Opcode::Text, b"\x8A\x08\x8A\x88"),
        };
        self.expected.extend_from_slice(&frame);
        self.line.extend(frame);
    }

    /// Reads some of what the peer has said, as a tunnel does: through the sieve.
    fn read(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let length = self.random.usize(1..=self.line.len().min(30));
        let piece: Vec<u8> = self.line.drain(..length).collect();
        let mut buffer = [vec![0xEE; HEADROOM], piece].concat();
        let sieve = &mut self.peer.sieve;
        let all: Range<usize> = sieve.rejoin(&mut buffer, HEADROOM..HEADROOM + length);
        let rest = sieve.sift(&self.cursor, &mut buffer, all);
        self.cursor.advance(&buffer[rest.clone()]);
        self.passed.extend_from_slice(&buffer[rest]);
        self.read += length as u64;
        self.peer.note(self.read, self.now);
        (self.open, self.silent_since) = (0, self.now);
    }

    /// A tick; true when the peer is given up.
    fn tick(&mut self, mood: Mood) -> bool {
        self.now += 1;
        let percent = |random: &mut fastrand::Rng, it: u8| random.u8(0..100) < it;
        if !self.is_dead {
            if percent(&mut self.random, mood.talks) {
                self.talk();
            }
            let now = self.now;
            let due = self.answers.extract_if(.., |(at, _)| *at <= now);
            let frames: Vec<u8> = due.flat_map(|(_, frame)| frame).collect();
            self.line.extend(frames);
        }
        let is_read = !percent(&mut self.random, mood.unread);
        if is_read {
            self.read();
        }
        if self.peer.due(PONG) > self.now {
            return false;
        }
        let is_between_frames = !percent(&mut self.random, mood.within);
        let calm = Situation { is_read, is_between_frames, taken: 0, is_queue: false };
        if !is_read {
            self.silent_since = self.now;
        }
        match self.peer.look(self.now, &calm) {
            Verdict::Wait => false,
            Verdict::Silent => true,
            Verdict::Ping => {
                assert!(is_read && is_between_frames, "seed {}", self.seed);
                self.open += 1;
                self.pings += 1;
                assert_eq!(self.open, 1, "seed {}: two questions at a time", self.seed);
                self.ping(mood);
                false
            }
        }
    }

    fn ping(&mut self, mood: Mood) {
        let asked = self.peer.sieve.ping(Instant::now());
        let payload = match self.is_masked {
            true => asked[2..].to_vec(),
            false => {
                asked[6..].iter().zip(asked[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect()
            }
        };
        let answer = self.frame(Opcode::Pong, &payload);
        let (least, most) = mood.answers_in;
        self.answers.push((self.now + self.random.u32(least..=most), answer));
    }
}

/// One who answers in time stays, whatever else it says, is asked no second question before it has
/// said something, and of what it says all passes but its answers; one that dies is found.
#[test]
fn who_answers_stays_and_who_is_dead_is_found() {
    let (mut pings, mut latest) = (0, 0);
    for seed in 0..400 {
        let mut play = Play::new(seed);
        let pick = |random: &mut fastrand::Rng, all: &[u8]| *random.choice(all).unwrap();
        let mood = Mood {
            talks: pick(&mut play.random, &[0, 1, 3, 20]),
            // What it says is read in pieces, which take some ticks, too.
            answers_in: (0, PONG / 3),
            unread: pick(&mut play.random, &[0, 0, 10]),
            within: pick(&mut play.random, &[0, 0, 50]),
        };
        for _ in 0..play.random.u32(200..2000) {
            assert!(!play.tick(mood), "seed {seed}: one who answers is given up");
        }
        play.is_dead = true;
        while !play.tick(mood) {
            let silent = play.now - play.silent_since;
            // A second for each time that it was within a frame, and as long as nobody read it.
            let most = INTERVAL + PONG + if mood.within > 0 { 200 } else { 1 };
            assert!(silent <= most, "seed {seed}: silent for {silent}");
        }
        assert!(play.now - play.silent_since >= PONG, "seed {seed}: it had no time to answer");
        let whole = &play.expected[..play.passed.len().min(play.expected.len())];
        assert_eq!(play.passed, whole, "seed {seed}");
        pings += play.pings;
        latest = latest.max(play.now);
    }
    assert!(pings > 2000 && latest > 1000, "it plays through too little: {pings}, {latest}");
}

/// The other side's pings are as good as ours: no question is put beside one.
#[test]
fn no_question_is_put_beside_that_of_the_other_side() {
    for seed in 0..100 {
        let mut play = Play::new(seed);
        let mood = Mood { talks: 0, answers_in: (1, PONG - 1), unread: 0, within: 0 };
        for _ in 0..2000 {
            if play.open == 0 && play.answers.is_empty() && play.random.u8(..) < 8 {
                play.peer.is_asked_already = true;
                play.open = 1;
                let at = play.now + play.random.u32(1..PONG);
                let pong = play.frame(Opcode::Pong, b"of the other side");
                play.expected.extend_from_slice(&pong);
                play.answers.push((at, pong));
            }
            assert!(!play.tick(mood), "seed {seed}");
        }
        assert!(play.pings > 0, "seed {seed}");
    }
}
