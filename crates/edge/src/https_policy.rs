//! What a listener does so that clients come by TLS, and by the TLS that is meant: it sends them on
//! (`https_redirect`), has them remember (`hsts`), and refuses what came over the TLS of another
//! name.

use std::borrow::Cow;
use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Uri};

use crate::answer::{self, Body};
use crate::host::without_port;
use crate::route::host_of;

/// The policy of a listener.
#[derive(Clone, Debug, Default)]
pub struct HttpsPolicy {
    /// The port of https to which every request is sent.
    pub redirect: Option<u16>,
    /// For `Strict-Transport-Security`. Never set without TLS: what comes as plain text could be
    /// from anybody, and browsers pass over it (RFC 6797, section 8.1).
    pub hsts: Option<HeaderValue>,
    /// Whether clients show certificates.
    pub asks_clients: bool,
}

impl HttpsPolicy {
    /// The answer to a request that came by the TLS of another name, `sni`, which is `None` when
    /// the handshake had none.
    pub fn misdirected(
        &self,
        sni: Option<&str>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        (self.asks_clients && is_misdirected(sni, host_of(uri, headers))).then(misdirected)
    }

    /// The answer that sends a request on to https; `None` where it is served here.
    pub fn redirect(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        is_websocket: bool,
    ) -> Option<Response<Body>> {
        let port = self.redirect?;
        let scheme = if is_websocket { "wss" } else { "https" };
        let location = host_of(uri, headers).and_then(|host| location(scheme, host, port, uri));
        let Some(location) = location else {
            let detail = "this is served by https, and the request names no host for that";
            return Some(answer::text(StatusCode::BAD_REQUEST, detail));
        };
        // Browsers do not follow it for a WebSocket; the text is for whoever looks why.
        let detail = match is_websocket {
            true => "WebSockets are opened by wss here",
            false => "this is served by https",
        };
        let mut response = answer::text(StatusCode::PERMANENT_REDIRECT, detail);
        response.headers_mut().insert(header::LOCATION, location);
        Some(response)
    }

    /// Marks an answer that goes out by TLS. A server's own header is replaced: the policy is for
    /// the name and all that is behind it.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Some(hsts) = &self.hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

/// What it does with requests, behind the addresses of a listener.
impl fmt::Display for HttpsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redirect.map_or(Ok(()), |port| write!(f, " -> 308 to https, port {port}"))
    }
}

/// The same place by TLS; `None` when the host is none that a URL could have.
fn location(scheme: &str, host: &str, port: u16, uri: &Uri) -> Option<HeaderValue> {
    let host = without_port(host);
    let is_v6 = || {
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inside.is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || !(host.chars().all(is_name) || is_v6()) {
        return None;
    }
    let port = if port == 443 { Cow::Borrowed("") } else { format!(":{port}").into() };
    // `OPTIONS *` is for the server as a whole, which a URL says without a path.
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = if path.starts_with('/') { path } else { "/" };
    HeaderValue::from_str(&format!("{scheme}://{host}{port}{path}")).ok()
}

/// Whether a request has come over the TLS of another name than its own.
///
/// Asked where clients show certificates: what was allowed to whom is decided in the handshake, for
/// the name in it (SNI), and must not be used for another (RFC 9110, section 15.5.20). Without a
/// name in the handshake, there is none that the request could be for, but an address. Elsewhere
/// one connection may serve all the names of its certificate.
fn is_misdirected(sni: Option<&str>, host: Option<&str>) -> bool {
    let plain = |name: &str| {
        let name = without_port(name);
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    };
    match (sni.map(plain), host.map(plain)) {
        (Some(sni), Some(host)) => sni != host,
        (None, Some(host)) => {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            address.parse::<std::net::IpAddr>().is_err()
        }
        // HTTP/1.0 may leave the host out: it is the one of the handshake.
        (_, None) => false,
    }
}

/// The answer to a request that is misdirected: another connection would be right.
fn misdirected() -> Response<Body> {
    let detail = "the request is for another host than the TLS handshake; open a connection for it";
    let mut response = answer::text(StatusCode::MISDIRECTED_REQUEST, detail);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(port: u16, host: &str, uri: &str, is_websocket: bool, expected: Result<&str, u16>) {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        let policy = HttpsPolicy { redirect: Some(port), ..HttpsPolicy::default() };
        let answer = policy.redirect(&uri.parse().unwrap(), &headers, is_websocket).unwrap();
        let found = match answer.headers().get(header::LOCATION) {
            Some(location) => {
                assert_eq!(answer.status(), 308);
                Ok(location.to_str().unwrap())
            }
            None => Err(answer.status().as_u16()),
        };
        assert_eq!(found, expected, "{host}{uri}");
    }

    #[test]
    fn a_request_is_sent_to_the_same_place_by_tls() {
        check(443, "a.test", "/x/y?z=1", false, Ok("https://a.test/x/y?z=1"));
        check(443, "A.test:8080", "/", false, Ok("https://A.test/"));
        check(8443, "a.test:8080", "/", false, Ok("https://a.test:8443/"));
        check(443, "[::1]:80", "/", false, Ok("https://[::1]/"));
        check(443, "other", "http://a.test/x", false, Ok("https://a.test/x"));
        check(443, "a.test", "//evil.test/x", false, Ok("https://a.test//evil.test/x"));
        check(443, "a.test", "*", false, Ok("https://a.test/"));
        check(443, "a.test", "/ws?x", true, Ok("wss://a.test/ws?x"));
        for odd in ["", ":80", "a,b", "a!b", "[::1", "[a.test]", "a%2eb"] {
            check(443, odd, "/", false, Err(400));
        }
    }

    #[test]
    fn only_where_clients_show_certificates_must_a_request_be_for_the_name_of_its_tls() {
        let mut policy = HttpsPolicy::default();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("b.test"));
        let status = |policy: &HttpsPolicy, sni| {
            let answer = policy.misdirected(Some(sni), &Uri::from_static("/"), &headers);
            answer.map(|answer| answer.status().as_u16())
        };
        assert_eq!(status(&policy, "a.test"), None);
        policy.asks_clients = true;
        assert_eq!(status(&policy, "a.test"), Some(421));
        assert_eq!(status(&policy, "b.test"), None);
    }

    #[test]
    fn a_request_is_for_the_name_of_its_tls() {
        let check = |sni, host, expected| {
            assert_eq!(is_misdirected(sni, host), expected, "{sni:?} {host:?}");
        };
        check(Some("a.test"), Some("a.test"), false);
        check(Some("a.test"), Some("A.test:8443"), false);
        check(Some("a.test"), Some("a.test."), false);
        check(Some("a.test"), None, false);
        check(Some("a.test"), Some("b.test"), true);
        check(Some("a.test"), Some("x.a.test"), true);
        check(Some("a.test"), Some("127.0.0.1"), true);
        check(None, Some("a.test"), true);
        check(None, Some("127.0.0.1:443"), false);
        check(None, Some("[::1]:443"), false);
        check(None, None, false);
    }
}
