//! What comes out of a tunnel: what went in, and at most one Close of the edge's own behind it.

/// Towards whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToClient,
    ToServer,
}

/// Whether `tunnel` is a part of what the other side has `said`, from behind a head on, with or
/// without a Close of ours behind a whole frame of it.
pub fn is_from(tunnel: &[u8], said: &[u8], direction: Direction) -> bool {
    let closes = (0..=tunnel.len()).filter(|&at| is_close(&tunnel[at..], direction));
    let mut cuts = closes.chain([tunnel.len()]);
    let starts = |part: &[u8]| {
        let part = part.to_vec();
        (1..=said.len()).any(|at| said[at - 1] == b'\n' && said[at..].starts_with(&part))
    };
    cuts.any(|cut| {
        let (passed, close) = tunnel.split_at(cut);
        starts(passed) && (close.is_empty() || is_whole(passed))
    })
}

/// As [`is_from`], where the edge pings: with pings of its kind left out on both sides, as those of
/// a script are like ours.
pub fn is_from_or_ping(tunnel: &[u8], said: &[u8], direction: Direction) -> bool {
    let tunnel = without_pings(tunnel, direction);
    let starts = (1..=said.len()).filter(|&at| said[at - 1] == b'\n');
    let mut frames = starts.map(|at| without_pings(&said[at..], direction));
    frames.any(|frames| is_from(&tunnel, &[b"\n", &frames[..]].concat(), direction))
}

/// The frames without whole pings of eight bytes, or the beginning of one at the end.
fn without_pings(mut bytes: &[u8], direction: Direction) -> Vec<u8> {
    let mut out = Vec::new();
    let (second, length) = ping_like(direction);
    while !bytes.is_empty() {
        let is_ping = bytes[0] == 0x89 && bytes.get(1).is_none_or(|&byte| byte == second);
        let whole = if is_ping { Some(length) } else { frame_bytes(bytes) };
        let (frame, rest) = bytes.split_at(whole.unwrap_or(bytes.len()).min(bytes.len()));
        if !is_ping {
            out.extend_from_slice(frame);
        }
        bytes = rest;
    }
    out
}

/// The answer to the last ping of ours in what a peer `got`, which none of the others has `said`.
pub fn pong(got: &[u8], said: &[Vec<u8>], direction: Direction) -> Option<Vec<u8>> {
    let (second, length) = ping_like(direction);
    let is_said = |ping: &[u8]| said.iter().any(|said| said.windows(length).any(|it| it == ping));
    let is_ping = |at: &usize| {
        let ping = got.get(*at..at + length);
        ping.is_some_and(|ping| ping.starts_with(&[0x89, second]) && !is_said(ping))
    };
    let at = (0..got.len()).rev().find(is_ping)?;
    let payload = &got[at + 2..at + length];
    Some(match direction {
        // A mask of zeros.
        Direction::ToClient => [&[0x8A, 0x88, 0, 0, 0, 0], payload].concat(),
        Direction::ToServer => {
            let (mask, masked) = payload.split_at(4);
            let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            [0x8A, 0x08].into_iter().chain(payload).collect()
        }
    })
}

/// Whether what a peer has `said` ends with a whole frame, behind a head.
pub fn is_between_frames(said: &[u8]) -> bool {
    let head = said.windows(4).position(|four| four == b"\r\n\r\n");
    head.is_some_and(|at| is_whole(&said[at + 4..]))
}

/// The second byte of a ping of ours, and how long it is.
fn ping_like(direction: Direction) -> (u8, usize) {
    match direction {
        Direction::ToClient => (0x08, 10),
        Direction::ToServer => (0x88, 14),
    }
}

/// A Close frame that is all there is, or the beginning of one.
fn is_close(bytes: &[u8], direction: Direction) -> bool {
    let masked = match direction {
        Direction::ToClient => 0,
        Direction::ToServer => 0x80,
    };
    match bytes {
        [0x88] => true,
        [0x88, second, rest @ ..] if second & 0x80 == masked => {
            rest.len() <= usize::from(second & 0x7F) + if masked == 0 { 0 } else { 4 }
        }
        _ => false,
    }
}

/// Whether the bytes end with a whole frame.
fn is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(after) = frame_bytes(rest).and_then(|length| rest.get(length..)) else {
            return false;
        };
        rest = after;
    }
    true
}

/// How long the frame is that `bytes` begin with.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let second = bytes.get(1)?;
    let (extra, at) = match second & 0x7F {
        126 => (2, 4),
        127 => (8, 10),
        _ => (0, 2),
    };
    let long = bytes.get(2..2 + extra)?;
    let long = long.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let length = if extra == 0 { u64::from(second & 0x7F) } else { long };
    let at = at + if second & 0x80 == 0 { 0 } else { 4 };
    usize::try_from(length).ok()?.checked_add(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_comes_out_and_our_close() {
        let said = b"HTTP/1.1 101\r\n\r\n\x81\x02hi\x81\x01!";
        let is_from = |tunnel: &[u8]| is_from(tunnel, said, Direction::ToClient);
        assert!(is_from(b"\x81\x02hi\x81\x01!"));
        assert!(is_from(b"\x81\x02h"));
        assert!(is_from(b"\x81\x02hi\x88\x02\x03\xE9"));
        assert!(!is_from(b"\x81\x02h\x88\x02\x03\xE9"), "a Close within a frame");
        assert!(!is_from(b"\x81\x02hi\x88\x02\x03\xE9\x88\x00"), "something behind the Close");
        assert!(!is_from(b"\x81\x02ho"));
    }
}
