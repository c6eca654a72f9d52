//! The time in a message: what `bench fanout` publishes and finds again at each subscriber.
//!
//! A stamp is ASCII, so that it passes in text messages, and starts with a marker, so that it is
//! found inside whatever a server wraps around a message, such as `Received: ...` or JSON.

use std::time::Duration;

/// Warm-up messages are delivered like others and not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp = b'w' as isize,
    Measured = b'm' as isize,
}

/// Finds stamps, first where the last one was.
#[derive(Default)]
pub struct Finder {
    offset: usize,
}

/// Marker, phase, sixteen hexadecimal digits of nanoseconds.
pub const LENGTH: usize = MARKER.len() + 1 + 16;
const MARKER: &[u8] = b"tidewire:";

/// Fills `payload` with a stamp and padding up to `size` bytes.
pub fn write(payload: &mut Vec<u8>, phase: Phase, time: Duration, size: usize) {
    payload.clear();
    payload.extend_from_slice(MARKER);
    payload.push(phase as u8);
    let nanoseconds = time.as_nanos() as u64;
    for shift in (0..64).step_by(4).rev() {
        payload.push(HEX[(nanoseconds >> shift & 0xF) as usize]);
    }
    payload.resize(size.max(LENGTH), b'.');
}

impl Finder {
    /// The phase and time of the stamp in `message`, if there is one.
    pub fn find(&mut self, message: &[u8]) -> Option<(Phase, Duration)> {
        let stamp = match message.get(self.offset..).filter(|rest| rest.starts_with(MARKER)) {
            Some(stamp) => stamp,
            None => {
                self.offset = message.windows(MARKER.len()).position(|part| part == MARKER)?;
                &message[self.offset..]
            }
        };
        let (phase, digits) = stamp.get(MARKER.len()..LENGTH)?.split_first()?;
        let phase = match phase {
            b'w' => Phase::WarmUp,
            b'm' => Phase::Measured,
            _ => return None,
        };
        let mut nanoseconds = 0u64;
        for digit in digits {
            let value = char::from(*digit).to_digit(16)?;
            nanoseconds = nanoseconds << 4 | u64::from(value);
        }
        Some((phase, Duration::from_nanos(nanoseconds)))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_what_a_server_makes_of_it() {
        let time = Duration::from_nanos(0x0123_4567_89ab_cdef);
        let mut payload = Vec::new();
        write(&mut payload, Phase::Measured, time, 64);
        assert_eq!(payload.len(), 64);
        let mut finder = Finder::default();
        for prefix in ["", "", "Received: ", "Received: ", "{\"data\":\"", ""] {
            let wrapped = [prefix.as_bytes(), &payload].concat();
            assert_eq!(finder.find(&wrapped), Some((Phase::Measured, time)), "{prefix:?}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_taken_for_one() {
        let mut finder = Finder::default();
        for head in [
            "",
            "hello",
            "tidewire:",
            "tidewire:m0123",
            "tidewire:x0123456789abcdef",
            "tidewire:m0123456789abcdeX",
        ] {
            assert_eq!(finder.find(head.as_bytes()), None, "{head}");
        }
    }
}
