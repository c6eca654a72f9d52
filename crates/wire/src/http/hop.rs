//! Headers that end at the next hop (RFC 9110, section 7.6.1), and names that only look like
//! another.
//!
//! Both go before a proxy adds headers of its own: a client that nominates `X-Forwarded-For` in
//! `Connection` must not take ours away.

use http::HeaderMap;
use http::header::{self, HeaderName};

use crate::http::tokens::{contains_token, tokens};

/// What the removed headers said that matters to the hop itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped {
    /// The sender can read trailers (`TE: trailers`), so they need not be dropped.
    pub accepts_trailers: bool,
}

/// Removes `Connection`, what it nominates, and what is of one hop by definition.
///
/// `Trailer` stays: it describes the message, not the hop (RFC 9110, section 6.6.2).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Stripped {
    let accepts_trailers = contains_token(headers, &header::TE, "trailers");
    for name in nominated(headers) {
        headers.remove(name);
    }
    remove_where(headers, is_hop_by_hop);
    Stripped { accepts_trailers }
}

/// Removes the headers whose names are so. A head has a few names, and there are many that it must
/// not have: asking for each of those costs more.
pub fn remove_where(headers: &mut HeaderMap, is_so: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_so(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The headers that `Connection` lists, except those that the message cannot do without.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect()
}

/// Whether a name has other characters than letters, digits and `-`.
///
/// Many a backend reads `X_Real_Ip` or `X.Real.Ip` as `X-Real-Ip` (CGI variables), so such a name
/// carries a forged value past whoever checks or sets the real one.
pub fn is_aliased(name: &HeaderName) -> bool {
    !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// RFC 9110, sections 7.6.1, 11.7 and 7.8; `Keep-Alive` and `Proxy-Connection` from before it.
///
/// `Proxy` never was a header: CGI makes `HTTP_PROXY` of it, through which a client picks the
/// proxy that the backend uses (CVE-2016-5385).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Nominating these would change where the message goes or where it ends, or make a handshake that
/// was looked at and found good another one for the server.
pub(crate) const END_TO_END: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
];

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's header name");
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_nominates_goes_with_it() {
        let mut found = headers(&[
            ("connection", "close, X-Forwarded-For"),
            ("connection", "cookie,, not a name"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("cookie", "a=b"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn headers_of_one_hop_go_also_when_nobody_nominates_them() {
        let mut found = headers(&[
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic Og=="),
            ("proxy", "http://198.51.100.1"),
            ("trailer", "expires"),
        ]);
        let stripped = strip_hop_by_hop(&mut found);
        assert_eq!(found, headers(&[("trailer", "expires")]));
        assert!(!stripped.accepts_trailers);
    }

    #[test]
    fn a_sender_that_reads_trailers_is_known() {
        let mut found = headers(&[("connection", "te"), ("te", "deflate;q=0.5, Trailers")]);
        assert_eq!(strip_hop_by_hop(&mut found), Stripped { accepts_trailers: true });
        assert!(found.is_empty());
    }

    #[test]
    fn what_a_message_is_nothing_without_cannot_be_nominated_away() {
        let kept = [
            ("host", "example.com"),
            ("content-length", "5"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        let mut found = headers(&kept);
        let names = "host, content-length, sec-websocket-key, Sec-WebSocket-Version";
        found.insert(header::CONNECTION, HeaderValue::from_static(names));
        strip_hop_by_hop(&mut found);
        assert_eq!(found, headers(&kept));
    }

    #[test]
    fn names_that_a_backend_could_take_for_another_are_dropped() {
        let mut found = headers(&[
            ("x-real-ip", "192.0.2.1"),
            ("x_real_ip", "198.51.100.1"),
            ("x.real.ip", "198.51.100.1"),
            ("transfer_encoding", "chunked"),
            ("sec-ch-ua-64", "1"),
        ]);
        remove_where(&mut found, is_aliased);
        assert_eq!(found, headers(&[("x-real-ip", "192.0.2.1"), ("sec-ch-ua-64", "1")]));
    }
}
