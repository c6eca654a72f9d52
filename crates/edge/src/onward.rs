//! A request as the next hop gets it: rebuilt from its parsed form, its hop's headers removed,
//! what the edge knows of the client set.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Request, Version};
use tidewire_wire::http::forwarded::{self, Hop, append_element};
use tidewire_wire::http::hop::{is_aliased, remove_where, strip_hop_by_hop};

use crate::auth::headers::IdentityHeaders;
use crate::trusted_proxies::Asker;

/// Rebuilds a request's head for a server. Whatever was said about who the client is goes first: what
/// of it is believed is in `asker` already. `granted` are the identity headers of this client,
/// `identity` the names of all that there are.
pub fn rebuild(
    parts: Parts,
    asker: &Asker,
    identity: &IdentityHeaders,
    granted: HeaderMap,
) -> Request<()> {
    let mut headers = parts.headers;
    let hop = strip_hop_by_hop(&mut headers);
    silence(&mut headers, identity);
    if hop.accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // Who asks in absolute form gets the host of that form (RFC 9112, section 3.2.2).
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    // `0010` is ten, and eight to who reads octal.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if let Some::<u64>(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    introduce(&mut headers, asker);
    // Of HTTP/1.0 it is not asked. To a server it is empty, then (RFC 9110, section 7.2): this is
    // HTTP/1.1, where one that is missing is an error.
    headers.entry(header::HOST).or_insert(HeaderValue::from_static(""));
    headers.extend(granted);
    let mut request = Request::new(());
    *request.method_mut() = parts.method;
    *request.uri_mut() = origin_form(&parts.uri);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// Removes what a client says about who it is, in the head of a request or in its trailers: some
/// servers make one list of the two.
pub fn silence(headers: &mut HeaderMap, identity: &IdentityHeaders) {
    remove_where(headers, |name| is_aliased(name) || is_claim(name));
    identity.remove_from(headers);
}

/// Makes `request` a WebSocket handshake again; `Sec-WebSocket-*` are end to end and still there.
pub fn ask_for_switch(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Tells the server who the client is, in the forms that servers read, and which proxies it has come
/// by.
fn introduce(headers: &mut HeaderMap, asker: &Asker) {
    let host = headers.get(header::HOST).cloned();
    let Asker { client, scheme, proxies, .. } = asker;
    let hop = Hop { peer: client.ip(), host: host.as_ref(), scheme };
    headers.insert(header::FORWARDED, forwarded::forwarded_element(&hop));
    headers.insert(X_FORWARDED_FOR, forwarded::forwarded_for(client.ip()));
    for &proxy in proxies {
        append_element(headers, &header::FORWARDED, forwarded::forwarded_proxy(proxy));
        append_element(headers, &X_FORWARDED_FOR, forwarded::forwarded_for(proxy));
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

fn origin_form(uri: &Uri) -> Uri {
    // `http://a#b` has a path that is empty, says that it is `/`, and would be written as nothing.
    let path = uri.path_and_query().filter(|path| path.as_str() != "/").cloned();
    Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a client may claim about itself, and about what it asks for: with `X-Original-URL` and the
/// like, some servers serve another path than the one that a route was found for. `Expect` is
/// answered by this hop, when the server's side takes the body.
///
/// What a content network says under a name of its own (`CF-Connecting-IP`) stays: a server that
/// believes it has been told to.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_listed = matches!(
        name,
        "client-ip"
            | "expect"
            | "forwarded"
            | "forwarded-for"
            | "front-end-https"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-forwarded"
            | "x-original-host"
            | "x-original-uri"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url"
            | "x-scheme"
            | "x-url-path"
            | "x-url-scheme"
    );
    is_listed || name.starts_with(CLAIMS_PREFIX)
}

/// All of these are claims: `X-Forwarded-For` and its family, of which each framework reads others
/// (`-Ssl`, `-Scheme`, `-Protocol`, `-Server`).
const CLAIMS_PREFIX: &str = "x-forwarded-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_address::ClientAddress;

    fn check(head: &[(&str, &str)], uri: &str, expected: &[(&str, &str)]) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let rebuilt = rebuild(
            parts,
            &Asker::direct(ClientAddress::direct("192.0.2.1:1".parse().unwrap()), "http"),
            &IdentityHeaders::default(),
            HeaderMap::new(),
        );
        let mut found: Vec<(&str, &str)> = rebuilt
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_hop_s_headers_go_and_the_client_s_claims_are_replaced() {
        check(
            &[
                ("host", "a.test"),
                ("connection", "Upgrade, X-Forwarded-For, X-Secret"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("x-secret", "1"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x_forwarded_for", "6.6.6.6"),
                ("x-forwarded-ssl", "on"),
                ("content-length", "0010"),
                ("x-original-url", "/admin"),
                ("forwarded", "for=6.6.6.6"),
                ("te", "trailers, gzip"),
                ("cookie", "a=b"),
            ],
            "/x",
            &[
                ("content-length", "10"),
                ("cookie", "a=b"),
                ("forwarded", "for=192.0.2.1;host=a.test;proto=http"),
                ("host", "a.test"),
                ("te", "trailers"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "a.test"),
                ("x-forwarded-proto", "http"),
            ],
        );
    }

    #[test]
    fn an_absolute_target_becomes_host_and_path() {
        check(
            &[("host", "other")],
            "http://a.test/x?y",
            &[
                ("forwarded", "for=192.0.2.1;host=a.test;proto=http"),
                ("host", "a.test"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "a.test"),
                ("x-forwarded-proto", "http"),
            ],
        );
    }

    #[test]
    fn a_request_that_names_no_host_says_so_to_servers() {
        let expected = [
            ("forwarded", "for=192.0.2.1;proto=http"),
            ("host", ""),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "http"),
        ];
        check(&[], "/", &expected);
    }

    #[test]
    fn a_request_always_has_a_target() {
        let uris = ["/", "http://a.test", "http://a.test#b", "http://a.test?c", "*"];
        let targets = uris.map(|uri| origin_form(&uri.parse().unwrap()).to_string());
        assert_eq!(targets, ["/", "/", "/", "/?c", "*"]);
    }
}
