//! CRC-32C (Castagnoli), as a header of version 2 may have it. A bit at a time: most
//! headers have none, and are of some dozen bytes.

/// The sum of what was added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 ^= u32::from(byte);
            for _ in 0..8 {
                let low = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (POLYNOMIAL * low);
            }
        }
    }

    pub(super) fn value(self) -> u32 {
        !self.0
    }
}

/// Of RFC 3385, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_rfc_3720_appendix_b_4() {
        let check = |bytes: &[u8], expected| {
            let mut sum = Crc32c::default();
            sum.add(bytes);
            assert_eq!(sum.value(), expected);
        };
        check(b"123456789", 0xe306_9283);
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
    }
}
