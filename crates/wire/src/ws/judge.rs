//! Judges the frames of a tunnel by their headers: one direction, nothing kept of the payload.
//!
//! ```text
//!   bytes ──> rest of the present frame ──> header ──> judged ──> its frame passes ──> header ...
//!                                             │          └─ wrong ──> nothing of it passes
//!                                             └─ cut by the end of the bytes ──> held back
//! ```
//!
//! What passes ends with a whole frame or within one whose header was found good, never within a
//! header: so a Close can be put where a frame was refused. What an endpoint alone can tell, which
//! is whether text is UTF-8 and how big a compressed message becomes, is not judged.

use crate::Violation;
use crate::ws::close;
use crate::ws::cursor::{Cursor, Head};
use crate::ws::frame::{FrameHeader, Opcode};
use crate::ws::message::{Limits, Role};
use crate::ws::rules::{self, Extensions};

/// What the frames of a direction are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub framing: Framing,
    pub limits: Limits,
    pub text: Allowed,
    pub binary: Allowed,
}

/// Whether frames must be as RFC 6455 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Strict,
    /// Their spelling and order are between the two peers.
    Any,
}

/// Whether messages of a kind may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    Yes,
    No,
}

/// Judges the frames of one direction. Small, because a tunnel has two.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Of the message that is open.
    bytes: u64,
    fragments: u32,
    is_open: bool,
    role: Role,
    extensions: Extensions,
}

/// What is to be done with the bytes that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There are none.
    None,
    /// They begin a header: they are to be given again, with what follows them.
    Held,
    /// They follow a Close, so they are for nobody (RFC 6455, section 5.5.1).
    AfterClose,
    /// They begin with the header of a frame that must not pass.
    Refused(Violation),
}

impl Rules {
    /// Nothing that a frame could break.
    pub const NONE: Rules = Rules {
        framing: Framing::Any,
        limits: Limits {
            frame_bytes_max: u64::MAX,
            message_bytes_max: u64::MAX,
            fragments_max: u32::MAX,
        },
        text: Allowed::Yes,
        binary: Allowed::Yes,
    };
}

impl Judge {
    /// A judge of what the peer of `role` says, once the 101 has agreed on `extensions`.
    pub fn new(role: Role, extensions: Extensions) -> Judge {
        Judge { bytes: 0, fragments: 0, is_open: false, role, extensions }
    }

    /// How many of `bytes`, the next ones of this direction, pass, and what the others are.
    ///
    /// `cursor` is taken along with those that pass. `admit` sees each frame that is good in
    /// itself, and may refuse it.
    #[inline]
    pub fn pass(
        &mut self,
        cursor: &mut Cursor,
        bytes: &[u8],
        rules: &Rules,
        mut admit: impl FnMut(&FrameHeader) -> Result<(), Violation>,
    ) -> (usize, Rest) {
        let mut at = cursor.pass_payload(bytes.len());
        while at < bytes.len() {
            if cursor.has_close() {
                return (at, Rest::AfterClose);
            }
            if cursor.is_lost() {
                return (bytes.len(), Rest::None);
            }
            let Some(head) = Head::read(&bytes[at..]) else {
                return (at, Rest::Held);
            };
            let judged = self.judge(&head, rules).and_then(|()| admit(&head.header));
            if let Err(violation) = judged {
                return (at, Rest::Refused(violation));
            }
            cursor.enter(&head);
            at += head.bytes;
            at += cursor.pass_payload(bytes.len() - at);
        }
        (at, Rest::None)
    }

    #[inline]
    fn judge(&mut self, head: &Head, rules: &Rules) -> Result<(), Violation> {
        let header = &head.header;
        if rules.framing == Framing::Strict {
            head.check_length()?;
            let opcode = rules::check_frame(self.role, self.extensions, header)?;
            if opcode.is_control() {
                return check_control(opcode, head);
            }
            rules::check_order(opcode, self.is_open)?;
        }
        self.judge_data(header, rules)
    }

    /// Of reserved opcodes, which may come here when framing is any one's own affair, a receiver
    /// knows what they are; they begin and end no message.
    #[inline]
    fn judge_data(&mut self, header: &FrameHeader, rules: &Rules) -> Result<(), Violation> {
        match Opcode::try_from(header.opcode) {
            Ok(Opcode::Continuation) => {}
            Ok(opcode @ (Opcode::Text | Opcode::Binary)) => {
                let allowed = if opcode == Opcode::Text { rules.text } else { rules.binary };
                if allowed == Allowed::No {
                    return Err(Violation::OpcodeRefused(opcode));
                }
                (self.bytes, self.fragments) = (0, 0);
            }
            Ok(_) | Err(_) => return Ok(()),
        }
        let fragments = self.fragments.saturating_add(1);
        rules::check_size(&rules.limits, header.length, self.bytes, fragments)?;
        self.is_open = !header.fin;
        (self.bytes, self.fragments) = match header.fin {
            true => (0, 0),
            false => (self.bytes.saturating_add(header.length), fragments),
        };
        Ok(())
    }
}

#[inline]
fn check_control(opcode: Opcode, head: &Head) -> Result<(), Violation> {
    rules::check_control(opcode, &head.header)?;
    match (opcode, head.header.length) {
        (Opcode::Close, 1) => Err(Violation::ClosePayloadCut),
        (Opcode::Close, 2..) => close::check_code(head.close_code).map(|_| ()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { frame_bytes_max: 300, message_bytes_max: 400, fragments_max: 3 };
    const STRICT: Rules = Rules { framing: Framing::Strict, limits: LIMITS, ..Rules::NONE };

    /// What passes of `bytes` and what the rest is, given whole, cut in two at each byte, and byte
    /// by byte, with what is held back given again.
    fn check_as(judge: &Judge, rules: &Rules, bytes: &[u8], expected: (usize, Rest)) {
        let cuts = (0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]);
        for pieces in cuts.chain([bytes.chunks(1).collect()]) {
            let (mut judge, mut cursor) = (judge.clone(), Cursor::new());
            let (mut passed, mut rest, mut given) = (0, Rest::None, Vec::new());
            for piece in &pieces {
                given.extend_from_slice(piece);
                let now;
                (now, rest) = judge.pass(&mut cursor, &given, rules, |_| Ok(()));
                passed += now;
                given.drain(..now);
                if matches!(rest, Rest::AfterClose | Rest::Refused(_)) {
                    break;
                }
            }
            assert_eq!((passed, rest), expected, "{bytes:x?} in {} pieces", pieces.len());
        }
    }

    /// As a server says it.
    fn check(bytes: &[u8], expected: (usize, Rest)) {
        check_as(&Judge::new(Role::Client, Extensions::None), &STRICT, bytes, expected);
    }

    fn refused(passed: usize, violation: Violation) -> (usize, Rest) {
        (passed, Rest::Refused(violation))
    }

    #[test]
    fn the_state_stays_small() {
        assert!(size_of::<Judge>() <= 16, "{}", size_of::<Judge>());
    }

    #[test]
    fn what_is_good_passes_and_a_header_that_is_cut_is_held() {
        check(b"", (0, Rest::None));
        check(b"\x81\x02hi\x82\x00", (6, Rest::None));
        check(b"\x81\x02h", (3, Rest::None));
        check(b"\x81\x02hi\x81", (4, Rest::Held));
        check(b"\x81\x02hi\x82\x7E\x01", (4, Rest::Held));
        check(b"\x01\x01a\x89\x01!\x00\x00\x80\x01b\x81\x00", (13, Rest::None));
        // A Close passes with its code, and nothing behind it.
        check(b"\x88\x02\x03", (0, Rest::Held));
        check(b"\x88\x03\x03\xE8", (4, Rest::None));
        check(b"\x88\x02\x03\xE8\x81\x00", (4, Rest::AfterClose));
    }

    #[test]
    fn of_a_frame_that_breaks_a_rule_nothing_passes() {
        check(b"\x81\x02hi\xC1\x00", refused(4, Violation::ReservedBits(0b100)));
        check(b"\x83\x00", refused(0, Violation::ReservedOpcode(3)));
        check(b"\x81\x80\x01\x02\x03\x04", refused(0, Violation::Masked));
        check(b"\x09\x00", refused(0, Violation::ControlFragmented(Opcode::Ping)));
        let long = Violation::ControlTooLong { opcode: Opcode::Ping, length: 126 };
        check(b"\x89\x7E\x00\x7E", refused(0, long));
        check(b"\x80\x00", refused(0, Violation::ContinuationWithoutStart));
        check(b"\x01\x00\x82\x00", refused(2, Violation::MessageNotFinished(Opcode::Binary)));
        check(b"\x82\x7E\x00\x01", refused(0, Violation::LengthNotMinimal(1)));
        check(b"\x82\x7F\x80\0\0\0\0\0\0\0", refused(0, Violation::LengthOverflow(1 << 63)));
        check(b"\x88\x01\x03", refused(0, Violation::ClosePayloadCut));
        check(b"\x88\x02\x03\xED", refused(0, Violation::CloseCodeInvalid(1005)));
        check(b"\x88\x02\x00\x00", refused(0, Violation::CloseCodeInvalid(0)));
        let client = Judge::new(Role::Server, Extensions::None);
        check_as(&client, &STRICT, b"\x81\x00", refused(0, Violation::NotMasked));
    }

    #[test]
    fn sizes_are_those_of_all_fragments_together() {
        let frame = Violation::FrameTooBig { length: 301, max: 300 };
        check(b"\x82\x7E\x01\x2D", refused(0, frame));
        let first = [b"\x02\x7E\x01\x2C".as_slice(), &[0; 300]].concat();
        let message = Violation::MessageTooBig { length: 401, max: 400 };
        check(&[&first, b"\x00\x65".as_slice()].concat(), refused(304, message));
        // Control frames are of no message; empty fragments are fragments.
        let most = [&first, b"\x89\x01!\x00\x00\x80\x64".as_slice(), &[0; 100]].concat();
        check(&[&most, b"\x82\x00".as_slice()].concat(), (304 + 3 + 2 + 102 + 2, Rest::None));
        let many = Violation::TooManyFragments { max: 3 };
        check(b"\x01\x00\x00\x00\x00\x00\x80\x00", refused(6, many));
        // The next message has its own.
        check(b"\x01\x00\x00\x00\x80\x00\x01\x00\x00\x00\x80\x00", (12, Rest::None));
    }

    #[test]
    fn reserved_bits_mean_what_the_101_says() {
        let bits = |bits| Violation::ReservedBits(bits);
        let deflate = Judge::new(Role::Client, Extensions::Deflate);
        check_as(&deflate, &STRICT, b"\x41\x00\x80\x00\xC2\x00", (6, Rest::None));
        check_as(&deflate, &STRICT, b"\x41\x00\xC0\x00", refused(2, bits(0b100)));
        check_as(&deflate, &STRICT, b"\xC9\x00", refused(0, bits(0b100)));
        check_as(&deflate, &STRICT, b"\xA1\x00", refused(0, bits(0b010)));
        let unknown = Judge::new(Role::Client, Extensions::Unknown);
        check_as(&unknown, &STRICT, b"\x71\x00\xF0\x00\xC9\x00", (6, Rest::None));
    }

    #[test]
    fn kinds_that_are_not_taken_are_refused_where_they_begin() {
        let text = Rules { binary: Allowed::No, ..STRICT };
        let judge = Judge::new(Role::Client, Extensions::None);
        let binary = Violation::OpcodeRefused(Opcode::Binary);
        check_as(&judge, &text, b"\x01\x00\x80\x00\x89\x00\x82\x00", refused(6, binary));
    }

    #[test]
    fn any_framing_is_still_limited_in_size() {
        let rules = Rules { framing: Framing::Any, ..STRICT };
        let judge = Judge::new(Role::Client, Extensions::None);
        let bytes = b"\xF1\x80\x01\x02\x03\x04\x83\x00\x80\x00\x01\x00\x01\x00\x09\x00";
        check_as(&judge, &rules, bytes, (bytes.len(), Rest::None));
        let frame = Violation::FrameTooBig { length: 301, max: 300 };
        check_as(&judge, &rules, b"\x82\x7E\x01\x2D", refused(0, frame));
        // A message that begins is a new one, whether or not the one before it has ended; so is
        // one that goes on where none was.
        let size = |first: u8, length: u8| [vec![first, 0x7E, 0, length], vec![0; length.into()]];
        for sizes in [
            [(0x02, 200), (0x02, 250), (0x82, 250)],
            [(0x80, 250), (0x80, 250), (0x80, 250)],
            [(0x02, 200), (0x80, 100), (0x80, 250)],
        ] {
            let bytes = sizes.map(|(first, length)| size(first, length).concat()).concat();
            check_as(&judge, &rules, &bytes, (bytes.len(), Rest::None));
        }
        for start in [b"\x02\x00\x02\x00\x02\x00\x02\x00", b"\x02\x00\x00\x00\x80\x00\x80\x00"] {
            let bytes = [start.as_slice(), b"\x80\x00\x80\x00\x80\x00\x80\x00"].concat();
            check_as(&judge, &rules, &bytes, (bytes.len(), Rest::None));
        }
        // A length of 64 bits has no end, nor what follows it.
        let lost = b"\x8B\x7F\x80\0\0\0\0\0\0\0\x82\x7E\x01\x2D";
        check_as(&judge, &rules, lost, (lost.len(), Rest::None));
    }

    #[test]
    fn who_admits_frames_sees_each_that_is_good() {
        let (mut judge, mut cursor) = (Judge::new(Role::Client, Extensions::None), Cursor::new());
        let mut seen = Vec::new();
        let admit = |header: &FrameHeader| {
            seen.push(header.opcode);
            match seen.len() {
                4 => Err(Violation::TooFast(crate::Traffic::Messages)),
                _ => Ok(()),
            }
        };
        let bytes = b"\x81\x00\x89\x00\x02\x01a\x80\x00\x82\x00";
        let expected = refused(7, Violation::TooFast(crate::Traffic::Messages));
        assert_eq!(judge.pass(&mut cursor, bytes, &STRICT, admit), expected);
        assert_eq!(seen, [1, 9, 2, 0]);
        // A bad one is bad whatever the rate says, and nobody is charged for it.
        let none = |_: &FrameHeader| -> Result<(), Violation> { panic!("it is asked about") };
        let (mut judge, mut cursor) = (Judge::new(Role::Client, Extensions::None), Cursor::new());
        let expected = refused(0, Violation::ReservedOpcode(3));
        assert_eq!(judge.pass(&mut cursor, b"\x83\x00", &STRICT, none), expected);
    }
}
