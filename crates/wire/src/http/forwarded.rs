//! Who the client was, told to the backend: `Forwarded` (RFC 7239) and its elder,
//! `X-Forwarded-For`.
//!
//! What a client claims about itself is for the caller to keep or remove before.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// What one hop knows of the request.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'h> {
    /// The client of this hop.
    pub peer: IpAddr,
    /// The `Host` it asked for.
    pub host: Option<&'h HeaderValue>,
    /// `http` or `https`: backends do not know `wss` here.
    pub scheme: &'static str,
}

/// The `Forwarded` element of a hop, such as `for="[2001:db8::1]";host=example.com;proto=https`.
pub fn forwarded_element(hop: &Hop<'_>) -> HeaderValue {
    let mut out = BytesMut::with_capacity(ELEMENT_BYTES);
    out.extend_from_slice(b"for=");
    match hop.peer.to_canonical() {
        // Of a Unix socket (RFC 7239, section 6.2).
        address if address.is_unspecified() => out.extend_from_slice(b"unknown"),
        address @ IpAddr::V4(_) => put_address(address, &mut out),
        // A colon or bracket is not for a token (RFC 7239, section 6).
        address @ IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            put_address(address, &mut out);
            out.extend_from_slice(b"]\"");
        }
    }
    if let Some(host) = hop.host {
        out.extend_from_slice(b";host=");
        put_word(host.as_bytes(), &mut out);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(hop.scheme.as_bytes());
    HeaderValue::from_maybe_shared(out.freeze()).expect("a quoted header value is a header value")
}

/// A client's address for `X-Forwarded-For`: bare, also if it is of IPv6.
pub fn forwarded_for(peer: IpAddr) -> HeaderValue {
    let peer = peer.to_canonical();
    if peer.is_unspecified() {
        return HeaderValue::from_static("unknown");
    }
    let mut out = BytesMut::with_capacity(ADDRESS_BYTES);
    put_address(peer, &mut out);
    HeaderValue::from_maybe_shared(out.freeze()).expect("an address is ASCII")
}

/// The `Forwarded` element of a proxy that another one has heard of the client from.
pub fn forwarded_proxy(proxy: IpAddr) -> HeaderValue {
    let node = match proxy.to_canonical() {
        proxy if proxy.is_unspecified() => "for=unknown".to_owned(),
        IpAddr::V4(proxy) => format!("for={proxy}"),
        IpAddr::V6(proxy) => format!("for=\"[{proxy}]\""),
    };
    HeaderValue::try_from(node).expect("an address is ASCII")
}

/// Adds an element to a comma list, on one line with what is there.
///
/// One line, as backends are known to read only the first or only the last.
pub fn append_element(headers: &mut HeaderMap, name: &HeaderName, element: HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name, element);
        return;
    }
    let mut list = BytesMut::new();
    for line in headers.get_all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    let list = HeaderValue::from_maybe_shared(list.freeze());
    headers.insert(name, list.expect("header values joined by commas are a header value"));
}

/// An address as [`IpAddr`] is displayed. Every request has it twice, and the machinery of
/// formatting would take as long as the rest of its rewriting.
fn put_address(address: IpAddr, out: &mut BytesMut) {
    let IpAddr::V4(address) = address else {
        return out.extend_from_slice(address.to_string().as_bytes());
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.put_u8(b'.');
        }
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if octet >= least {
                out.put_u8(b'0' + octet / unit % 10);
            }
        }
    }
}

/// A token as it is, anything else quoted (RFC 9110, sections 5.6.2 and 5.6.4).
fn put_word(word: &[u8], out: &mut BytesMut) {
    if !word.is_empty() && word.iter().copied().all(is_token_byte) {
        out.extend_from_slice(word);
        return;
    }
    out.put_u8(b'"');
    for byte in word {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Room for most, so that the buffer seldom grows.
const ELEMENT_BYTES: usize = 96;

/// The longest address, in text.
const ADDRESS_BYTES: usize = 45;

#[cfg(test)]
mod tests {
    use http::header::FORWARDED;

    use super::*;

    fn element(peer: &str, host: Option<&'static str>) -> HeaderValue {
        let host = host.map(HeaderValue::from_static);
        let peer = peer.parse().expect("a test's address");
        forwarded_element(&Hop { peer, host: host.as_ref(), scheme: "https" })
    }

    #[test]
    fn what_is_no_token_is_quoted() {
        let check = |peer, host, expected| assert_eq!(element(peer, host), expected);
        check("192.0.2.60", None, "for=192.0.2.60;proto=https");
        check("::ffff:192.0.2.60", None, "for=192.0.2.60;proto=https");
        check("2001:db8::17", None, r#"for="[2001:db8::17]";proto=https"#);
        check("192.0.2.1", Some("example.com"), "for=192.0.2.1;host=example.com;proto=https");
        check("192.0.2.1", Some("a:8080"), r#"for=192.0.2.1;host="a:8080";proto=https"#);
        check("192.0.2.1", Some("[::1]"), r#"for=192.0.2.1;host="[::1]";proto=https"#);
        check("192.0.2.1", Some(""), r#"for=192.0.2.1;host="";proto=https"#);
    }

    #[test]
    fn a_host_cannot_add_an_element_of_its_own() {
        let forged = element("192.0.2.1", Some(r#"a";for="\evil, for=b"#));
        let expected = r#"for=192.0.2.1;host="a\";for=\"\\evil, for=b";proto=https"#;
        assert_eq!(forged, expected);
    }

    #[test]
    fn an_address_is_bare_in_x_forwarded_for() {
        let check = |peer: &str, expected| {
            assert_eq!(forwarded_for(peer.parse().expect("a test's address")), expected);
        };
        check("192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("2001:DB8::1", "2001:db8::1");
    }

    #[test]
    fn elements_are_joined_on_one_line_in_their_order() {
        let mut headers = HeaderMap::new();
        for value in ["for=a", "for=b, for=c", "for=d"] {
            headers.append(FORWARDED, HeaderValue::from_static(value));
            append_element(&mut headers, &FORWARDED, HeaderValue::from_static("for=x"));
        }
        let lines: Vec<_> = headers.get_all(FORWARDED).into_iter().collect();
        assert_eq!(lines, ["for=a, for=x, for=b, for=c, for=x, for=d, for=x"]);
    }

    #[test]
    fn an_address_is_written_as_it_is_displayed() {
        let octets = (0..=u8::MAX).map(|octet| IpAddr::from([octet, 0, 255 - octet, octet]));
        let others = ["::1", "2001:db8::8:800:200c:417a"].map(|it| it.parse().unwrap());
        for address in octets.chain(others) {
            let mut out = BytesMut::new();
            put_address(address, &mut out);
            assert_eq!(out, address.to_string().as_bytes());
        }
    }
}
