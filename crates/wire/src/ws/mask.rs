//! The mask that a client lays over its payloads (RFC 6455, section 5.3).

/// XORs `bytes` with `mask`, starting at byte `phase` of it, and returns the phase to go on with.
///
/// A payload that comes in pieces is one sequence: the phase of a piece is the number of payload
/// bytes before it, of which only the lowest two bits matter.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], phase: usize) -> usize {
    let next_phase = phase.wrapping_add(bytes.len()) & 3;
    let word = word_of(mask, phase);
    // Eight bytes at a time in plain integers: the compiler turns this loop into vector
    // instructions, so that neither `unsafe` nor a choice by CPU is needed here.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask_byte) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= mask_byte;
    }
    next_phase
}

/// The mask twice, turned so that its first byte in memory is the one for `phase`.
fn word_of(mask: [u8; 4], phase: usize) -> u64 {
    let turned = u32::from_le_bytes(mask).rotate_right(8 * (phase & 3) as u32);
    let [a, b, c, d] = turned.to_le_bytes();
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    fn byte_by_byte(bytes: &mut [u8], phase: usize) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte ^= MASK[(phase + index) % 4];
        }
    }

    #[test]
    fn every_length_and_phase_is_masked_as_byte_by_byte() {
        for length in 0..100 {
            for phase in 0..9 {
                let plain: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
                let (mut fast, mut slow) = (plain.clone(), plain);
                let next_phase = apply_mask(&mut fast, MASK, phase);
                byte_by_byte(&mut slow, phase);
                assert_eq!(fast, slow, "length {length}, phase {phase}");
                assert_eq!(next_phase, (phase + length) % 4);
            }
        }
    }

    #[test]
    fn a_payload_in_pieces_is_masked_as_a_whole() {
        let plain: Vec<u8> = (0..40).collect();
        let mut whole = plain.clone();
        apply_mask(&mut whole, MASK, 0);
        for cut in 0..=plain.len() {
            let mut pieces = plain.clone();
            let (first, second) = pieces.split_at_mut(cut);
            let phase = apply_mask(first, MASK, 0);
            apply_mask(second, MASK, phase);
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
