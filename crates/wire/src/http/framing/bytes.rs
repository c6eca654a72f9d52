//! Which bytes may be where in a head (RFC 9110, section 5.6.2; RFC 3986, section 2).

/// For each byte, the places where it may be.
static PLACES: [u8; 256] = places();

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const VALUE: u8 = 4;

/// How many of the first bytes may be in a token.
pub(super) fn token(bytes: &[u8]) -> usize {
    run(bytes, TOKEN)
}

/// How many of the first bytes may be in a target.
pub(super) fn target(bytes: &[u8]) -> usize {
    run(bytes, TARGET)
}

/// How many of the first bytes may be in the value of a header. Values are most of a head, so they
/// are looked at eight bytes at a time as long as there is nothing about them.
pub(super) fn value(bytes: &[u8]) -> usize {
    let mut taken = 0;
    while let Some(eight) = bytes[taken..].first_chunk() {
        if has_control(u64::from_ne_bytes(*eight)) {
            break;
        }
        taken += eight.len();
    }
    taken + run(&bytes[taken..], VALUE)
}

/// Whether one of eight bytes is below a space or is DEL. ("Determine if a word has a byte less than
/// n", in Anderson's Bit Twiddling Hacks.)
fn has_control(bytes: u64) -> bool {
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let without_del = bytes ^ each(0x7f);
    let is_below = bytes.wrapping_sub(each(b' ')) & !bytes;
    let is_del = without_del.wrapping_sub(each(1)) & !without_del;
    (is_below | is_del) & each(0x80) != 0
}

fn run(bytes: &[u8], place: u8) -> usize {
    let is_elsewhere = |&byte: &u8| PLACES[usize::from(byte)] & place == 0;
    bytes.iter().position(is_elsewhere).unwrap_or(bytes.len())
}

const fn places() -> [u8; 256] {
    let mut places = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let is_sign = matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if b.is_ascii_alphanumeric() || is_sign {
            places[byte] |= TOKEN;
        }
        // Browsers leave some bytes as they are that no URI has, such as `|` and `{`. Not these
        // four: no browser sends them, and hyper takes them for no target.
        if b.is_ascii_graphic() && !matches!(b, b'#' | b'<' | b'>' | b'`' | b'"') {
            places[byte] |= TARGET;
        }
        if b >= b' ' && b != 0x7f || b == b'\t' {
            places[byte] |= VALUE;
        }
        byte += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_where_its_bytes_one_by_one_do() {
        for byte in 0..=u8::MAX {
            for length in 0..20 {
                for at in 0..length {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert_eq!(value(&bytes), run(&bytes, VALUE), "{byte} at {at} of {length}");
                }
            }
        }
    }
}
