//! What clients and servers do, in order, as a fuzzer writes it.
//!
//! ```text
//!   <setting> 0xFF 'a' GET / HTTP/1.1... 0xFF '.' more of it 0xFF 'f' 0xFF 'A' HTTP/1.1 200 OK...
//! ```
//!
//! Bytes are said by whoever's turn it is; `0xFF` and a letter is an order. So a mutation in the
//! middle of a request moves nothing else, and seeds can be read.

/// The byte that makes the next one an order; twice, it is itself.
pub const ORDER: u8 = 0xFF;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'i> {
    /// It is this one's turn; a client that is not there yet connects.
    Turn(Side, usize),
    Say(&'i [u8]),
    /// A server answers the handshake that it got last, rightly.
    Switch,
    /// All that can happen without further bytes happens.
    Settle,
    /// It says nothing more.
    End,
    /// It is gone; with a reset when it had something to read.
    Leave,
    Reset,
    /// It answers a ping of the edge.
    Pong,
    /// It takes what it is sent, or does not any more.
    Reading(bool),
    /// Time passes.
    Wait(Pause),
    /// The worker is told to finish.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    Tick,
    /// Longer than any timeout of an exchange.
    Long,
}

/// The steps of a script, at most [`STEPS_MAX`].
pub fn steps(input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut rest = input;
    let next = move || {
        let (&first, after) = rest.split_first()?;
        if first != ORDER {
            let length = rest.iter().position(|&byte| byte == ORDER).unwrap_or(rest.len());
            let (said, after) = rest.split_at(length);
            rest = after;
            return Some(Step::Say(said));
        }
        let (&order, after) = after.split_first()?;
        let itself = &rest[1..2];
        rest = after;
        Some(match order {
            b'a'..=b'd' => Step::Turn(Side::Client, usize::from(order - b'a')),
            b'A'..=b'D' => Step::Turn(Side::Server, usize::from(order - b'A')),
            b'w' => Step::Switch,
            b'f' => Step::End,
            b'x' => Step::Leave,
            b'r' => Step::Reset,
            b'o' => Step::Pong,
            b'p' => Step::Reading(false),
            b'q' => Step::Reading(true),
            b't' => Step::Wait(Pause::Tick),
            b'T' => Step::Wait(Pause::Long),
            b'z' => Step::Drain,
            ORDER => Step::Say(itself),
            _ => Step::Settle,
        })
    };
    std::iter::from_fn(next).take(STEPS_MAX)
}

/// Most steps of a script, so that each is over soon.
const STEPS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        let read: Vec<_> = steps(b"\xFFahi\xFF.\xFF\xFF\xFFB\xFFwyo\xFF").collect();
        let expected = [
            Step::Turn(Side::Client, 0),
            Step::Say(b"hi"),
            Step::Settle,
            Step::Say(b"\xFF"),
            Step::Turn(Side::Server, 1),
            Step::Switch,
            Step::Say(b"yo"),
        ];
        assert_eq!(read, expected);
    }
}
