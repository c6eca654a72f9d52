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
        let Some(second) = rest.get(1) else { return false };
        let (extra, at) = match second & 0x7F {
            126 => (2, 4),
            127 => (8, 10),
            _ => (0, 2),
        };
        let Some(long) = rest.get(2..2 + extra) else { return false };
        let long = long.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if extra == 0 { u64::from(second & 0x7F) } else { long };
        let at = at + if second & 0x80 == 0 { 0 } else { 4 };
        let Some(after) =
            usize::try_from(length).ok().and_then(|length| rest.get(at..)?.get(length..))
        else {
            return false;
        };
        rest = after;
    }
    true
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
