//! What no request may have: what hyper lets pass, and two readers could read in two ways.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use tidewire_wire::http::query;
use tidewire_wire::http::tokens::tokens;

/// Why a request is not served, by whatever route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("no Host")]
    NoHost,
    #[error("more than one Host")]
    HostRepeated,
    #[error("Host is not a host name or address, with or without a port")]
    NotHost,
    #[error("the host of the target is not that of Host")]
    HostMismatch,
    #[error("the path has a segment of dots")]
    DotSegment,
    #[error("the path has a backslash; paths have slashes")]
    Backslash,
    #[error("the path has a `%` without two hexadecimal digits behind it")]
    BrokenEscape,
    #[error("the path has a control character in it, percent-encoded")]
    EncodedControl,
    #[error("the target `*` is for OPTIONS alone")]
    Asterisk,
    #[error("{0} is not served")]
    Method(&'static str),
    #[error("no transfer coding but chunked is served")]
    TransferCoding,
    #[error("nothing but 100-continue can be expected here")]
    Expectation,
}

impl Unfit {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The header that the status asks for.
    pub fn header(self) -> Option<(HeaderName, HeaderValue)> {
        let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        matches!(self, Self::Method(_)).then_some((header::ALLOW, methods))
    }
}

/// Checks the head of a request. Its framing was checked byte by byte as it came.
pub fn check(parts: &Parts) -> Result<(), Unfit> {
    match parts.method {
        Method::CONNECT => return Err(Unfit::Method("CONNECT")),
        // It would show a page what the edge tells servers, and what cookies it must not read.
        Method::TRACE => return Err(Unfit::Method("TRACE")),
        _ => {}
    }
    check_host(parts)?;
    match parts.uri.path() {
        "*" if parts.method == Method::OPTIONS => {}
        "*" => return Err(Unfit::Asterisk),
        path => check_path(path)?,
    }
    check_expectation(&parts.headers)?;
    check_codings(&parts.headers)
}

/// What two servers could take for two paths is refused, so that what a route was found for is what
/// a server serves. Clients resolve `.` and `..` before they ask (RFC 3986, section 6.2.2.3); some
/// servers do it afterwards, and to them `/x/../admin` is `/admin`, for which there may be a route
/// that asks who the client is. For some `\` is a slash, for some `%2F` is one before they resolve,
/// those of Java look for dots in front of a `;`, and for those in C a NUL is the end.
///
/// `//`, `%2F` and `;x` that make no such segment stay as they are: applications have them.
pub(crate) fn check_path(path: &str) -> Result<(), Unfit> {
    if !path.contains(['%', '\\']) && !path.contains("/.") {
        return Ok(());
    }
    if path.contains('\\') {
        return Err(Unfit::Backslash);
    }
    let decoded = query::decode(path).ok_or(Unfit::BrokenEscape)?;
    if decoded.contains(&b'\\') {
        return Err(Unfit::Backslash);
    }
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(Unfit::EncodedControl);
    }
    let is_dots = |segment: &[u8]| {
        let name = segment.split(|&byte| byte == b';').next();
        matches!(name, Some(b"." | b".."))
    };
    let has_dots = decoded.split(|&byte| byte == b'/').any(is_dots);
    if has_dots { Err(Unfit::DotSegment) } else { Ok(()) }
}

/// Exactly one Host, and it is one (RFC 9112, section 3.2). Whatever stands in it reaches routes,
/// servers and logs.
fn check_host(parts: &Parts) -> Result<(), Unfit> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Unfit::HostRepeated),
        (None, None) if parts.version == Version::HTTP_11 => return Err(Unfit::NoHost),
        (host, None) => host.map(HeaderValue::as_bytes),
    };
    if host.is_some_and(|host| !is_host(host)) {
        return Err(Unfit::NotHost);
    }
    // Of the target in absolute form, which comes before the header; the two must not differ, or
    // what asks one of them is passed by with the other.
    let Some(authority) = parts.uri.authority() else { return Ok(()) };
    if !is_host(authority.as_str().as_bytes()) {
        return Err(Unfit::NotHost);
    }
    let port = match parts.uri.scheme_str() {
        Some("https") => ":443",
        _ => ":80",
    };
    let bare = |host: &'_ str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    let is_same = |host: &[u8]| {
        std::str::from_utf8(host).is_ok_and(|host| bare(host) == bare(authority.as_str()))
    };
    if host.is_none_or(is_same) { Ok(()) } else { Err(Unfit::HostMismatch) }
}

/// A host and perhaps a port (RFC 3986, section 3.2.2); no `@`, since a user in front of a host is
/// there to deceive (RFC 9110, section 4.2.4).
fn is_host(text: &[u8]) -> bool {
    let (is_literal, name_end) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|&byte| byte == b']') {
            Some(end) => (true, end + 2),
            None => return false,
        },
        _ => (false, text.iter().position(|&byte| byte == b':').unwrap_or(text.len())),
    };
    let (name, port) = text.split_at(name_end);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let is_good = match is_literal {
        true => name.len() > 2 && name[1..name.len() - 1].iter().all(is_address),
        false => !name.is_empty() && name.iter().all(is_name),
    };
    is_good && is_port(port)
}

/// Nothing, or a colon and a port.
fn is_port(text: &[u8]) -> bool {
    let [b':', digits @ ..] = text else { return text.is_empty() };
    let number = std::str::from_utf8(digits).ok().and_then(|it| it.parse::<u16>().ok());
    digits.iter().all(u8::is_ascii_digit) && number.is_some_and(|port| port > 0)
}

/// 100-continue is answered by this hop; what else somebody may expect, no server is asked
/// (RFC 9110, section 10.1.1).
fn check_expectation(headers: &HeaderMap) -> Result<(), Unfit> {
    let mut expected = tokens(headers, &header::EXPECT);
    let is_known = expected.all(|it| it.eq_ignore_ascii_case(b"100-continue"));
    if is_known { Ok(()) } else { Err(Unfit::Expectation) }
}

/// The server would get what is left, and take it for the body (RFC 9112, section 6.1).
fn check_codings(headers: &HeaderMap) -> Result<(), Unfit> {
    let mut codings = tokens(headers, &header::TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Unfit::TransferCoding),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn check_request(uri: &str, headers: &[(&str, &str)], expected: Result<(), Unfit>) {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        assert_eq!(check(&parts), expected, "{uri} {headers:?}");
    }

    #[test]
    fn a_request_has_one_host() {
        check_request("/", &[("host", "a.test")], Ok(()));
        check_request("/", &[("host", "[::1]:80")], Ok(()));
        check_request("/", &[("host", "xn--bcher-kva.test:8080")], Ok(()));
        check_request("/", &[], Err(Unfit::NoHost));
        check_request("/", &[("host", "a"), ("host", "a")], Err(Unfit::HostRepeated));
        for host in [
            "a b",
            "a\" by=\"edge",
            "a/b",
            "user@a",
            "a\t",
            "",
            ":80",
            "a:",
            "a:b",
            "a:0",
            "a:+1",
            "a:65536",
            "a:80:80",
            "[::1",
            "[]",
            "[::1]x",
            "[a]b",
            "[::1]:",
            "a]",
            "[g]",
            "a,b/c",
        ] {
            check_request("/", &[("host", host)], Err(Unfit::NotHost));
        }
        check_request("http://user@a/", &[("host", "a")], Err(Unfit::NotHost));
        check_request("http://a:65536/", &[("host", "a")], Err(Unfit::NotHost));
        check_request("http://A/", &[("host", "a:80")], Ok(()));
        check_request("https://a:443/", &[("host", "a")], Ok(()));
        for host in ["b", "a:81", "a.", "aa"] {
            check_request("http://a/", &[("host", host)], Err(Unfit::HostMismatch));
        }
        check_request("http://a/", &[], Err(Unfit::NoHost));
    }

    #[test]
    fn a_path_has_no_segments_that_a_server_could_resolve() {
        for path in ["/..", "/a/../b", "/a/.", "/./a", "/a/%2e%2E/b", "/a/.%2e", "/%2e/"] {
            check_request(path, &[("host", "a")], Err(Unfit::DotSegment));
        }
        for path in ["/a/..;x/b", "/%2f..", "/x/..%2fadmin", "/a%2f%2e%2e%2Fb", "/..%3bx", "/.;/"] {
            check_request(path, &[("host", "a")], Err(Unfit::DotSegment));
        }
        for path in ["/.well-known/x", "/a/...", "/a..b", "/a?b=/../c", "/..a", "/a;../b"] {
            check_request(path, &[("host", "a")], Ok(()));
        }
    }

    #[test]
    fn a_path_that_servers_read_in_two_ways_is_refused() {
        let check = |path, unfit| check_request(path, &[("host", "a")], Err(unfit));
        check("/a\\b", Unfit::Backslash);
        check("/a%5cb", Unfit::Backslash);
        check("/a%00", Unfit::EncodedControl);
        check("/a%0d%0ab", Unfit::EncodedControl);
        check("/a%7F", Unfit::EncodedControl);
        check("/a%", Unfit::BrokenEscape);
        check("/a%4", Unfit::BrokenEscape);
        check("/a%zz", Unfit::BrokenEscape);
        check("/a%u002e", Unfit::BrokenEscape);
        // What applications have.
        for path in ["//a//b", "/a%2Fb", "/a;b=c", "/%c3%bc", "/%ff", "/a%252e", "/a?%zz\\%00"] {
            check_request(path, &[("host", "a")], Ok(()));
        }
    }

    #[test]
    fn methods_and_expectations_that_are_not_for_an_edge_are_refused() {
        let check = |method: &str, uri: &str, expect: Option<&str>, expected| {
            let mut request = Request::builder().method(method).uri(uri).header("host", "a");
            if let Some(expect) = expect {
                request = request.header("expect", expect);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(super::check(&parts), expected, "{method} {uri} {expect:?}");
        };
        check("TRACE", "/", None, Err(Unfit::Method("TRACE")));
        check("CONNECT", "a:443", None, Err(Unfit::Method("CONNECT")));
        check("OPTIONS", "*", None, Ok(()));
        check("GET", "*", None, Err(Unfit::Asterisk));
        check("GET", "/", Some("100-Continue"), Ok(()));
        check("GET", "/", Some("tea"), Err(Unfit::Expectation));
    }

    #[test]
    fn the_only_transfer_coding_is_chunked() {
        let coded = |coding| [("host", "a"), ("transfer-encoding", coding)];
        check_request("/", &coded("Chunked"), Ok(()));
        check_request("/", &coded("gzip, chunked"), Err(Unfit::TransferCoding));
        check_request("/", &coded("chunked, chunked"), Err(Unfit::TransferCoding));
    }
}
