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

/// How many of the first bytes may be in the value of a header.
pub(super) fn value(bytes: &[u8]) -> usize {
    run(bytes, VALUE)
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
