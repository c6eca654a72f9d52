//! The query of a target, as a list of parameters (WHATWG URL, section 5.1).
//!
//! Only percent signs are decoded: a `+` stays one, as credentials may have it.

use std::borrow::Cow;

/// A parameter, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'q> {
    pub name: &'q str,
    pub value: &'q str,
}

/// The parameters of a query without its `?`, in its order.
pub fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    query.split('&').filter(|piece| !piece.is_empty()).map(split)
}

/// The query without the parameters of this name; `None` when nothing is left.
pub fn without(query: &str, name: &str) -> Option<String> {
    let left: Vec<&str> = query.split('&').filter(|piece| !split(piece).is_named(name)).collect();
    Some(left.join("&")).filter(|query| !query.is_empty())
}

/// The bytes that a text with `%41` in it stands for; `None` when a `%` has no two digits.
pub fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => decoded.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?),
            byte => decoded.push(byte),
        }
    }
    Some(Cow::Owned(decoded))
}

/// As [`decode`], for comparing: what is no escape stays, and what is not UTF-8 is replaced.
pub fn decode_lossy(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        decoded.push(escaped.map_or(*first, |(high, low)| high << 4 | low));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl<'q> Parameter<'q> {
    /// Whether this is its name, also when letters of it are written as `%74`.
    pub fn is_named(&self, name: &str) -> bool {
        decode(self.name).is_some_and(|decoded| *decoded == *name.as_bytes())
    }

    /// Its value, decoded; `None` when it cannot be.
    pub fn decoded(&self) -> Option<Cow<'q, [u8]>> {
        decode(self.value)
    }
}

fn split(piece: &str) -> Parameter<'_> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    Parameter { name, value }
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> = parameters(query).map(|it| (it.name, it.value)).collect();
        assert_eq!(found, expected, "{query:?}");
    }

    #[test]
    fn parameters_come_in_their_order() {
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("&a=1&&b&", &[("a", "1"), ("b", "")]);
        check("a=b=c&=d", &[("a", "b=c"), ("", "d")]);
        check("", &[]);
    }

    #[test]
    fn percent_signs_are_decoded_and_nothing_else() {
        let check = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(decode(text).as_deref(), expected, "{text:?}");
        };
        check("a+b", Some(b"a+b"));
        check("%41%4a%ff", Some(b"AJ\xff"));
        for wrong in ["%", "%4", "%4g", "a%", "%%41", "%+1", "%-1"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_parameter_is_taken_out_however_its_name_is_written() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(without(query, "token").as_deref(), expected, "{query:?}");
        };
        check("token=1", None);
        check("token", None);
        check("a=1&token=1&b=2&token=3", Some("a=1&b=2"));
        check("%74oken=1&tok%65n=2&c", Some("c"));
        check("Token=1&tokens=2", Some("Token=1&tokens=2"));
        check("a=token", Some("a=token"));
    }
}
