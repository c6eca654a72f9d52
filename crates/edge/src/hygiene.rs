//! What no request may have: what hyper lets pass, and two readers could read in two ways.

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode, Version};
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
    #[error("the path has a segment of dots")]
    DotSegment,
    #[error("CONNECT is not served")]
    Connect,
    #[error("no transfer coding but chunked is served")]
    TransferCoding,
}

impl Unfit {
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoHost | Self::HostRepeated | Self::NotHost | Self::DotSegment => {
                StatusCode::BAD_REQUEST
            }
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// Checks the head of a request.
pub fn check(parts: &Parts) -> Result<(), Unfit> {
    check_host(parts)?;
    if parts.method == Method::CONNECT {
        return Err(Unfit::Connect);
    }
    check_dots(parts.uri.path())?;
    check_codings(&parts.headers)
}

/// Clients resolve `.` and `..` before they ask (RFC 3986, section 6.2.2.3); some servers do it
/// afterwards. To them, `/x/../admin` is `/admin`, for which there may be a route that asks who the
/// client is.
fn check_dots(path: &str) -> Result<(), Unfit> {
    let is_dots = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    let could_be = |segment: &&str| segment.starts_with('.') || segment.starts_with("%2");
    if path.split('/').filter(could_be).any(is_dots) { Err(Unfit::DotSegment) } else { Ok(()) }
}

/// Exactly one Host, and it is one (RFC 9112, section 3.2). Whatever stands in it reaches routes,
/// servers and logs.
fn check_host(parts: &Parts) -> Result<(), Unfit> {
    // Of the target in absolute form, which comes before the header.
    if parts.uri.authority().is_some_and(|authority| !is_host(authority.as_str().as_bytes())) {
        return Err(Unfit::NotHost);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Unfit::HostRepeated),
        (None, None) if parts.version == Version::HTTP_11 => Err(Unfit::NoHost),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(Unfit::NotHost),
        _ => Ok(()),
    }
}

/// The characters of a host and a port (RFC 3986, section 3.2.2); no `@`, since a user in front of
/// a host is there to deceive (RFC 9110, section 4.2.4).
fn is_host(text: &[u8]) -> bool {
    let is_allowed =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte);
    text.iter().all(is_allowed)
}

/// hyper takes `gzip, chunked` for chunked. The server would get what is left, and take it for the
/// body (RFC 9112, section 6.1).
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
        for host in ["a b", "a\" by=\"edge", "a/b", "user@a", "a\t"] {
            check_request("/", &[("host", host)], Err(Unfit::NotHost));
        }
        check_request("http://user@a/", &[("host", "a")], Err(Unfit::NotHost));
    }

    #[test]
    fn a_path_has_no_segments_that_a_server_could_resolve() {
        for path in ["/..", "/a/../b", "/a/.", "/./a", "/a/%2e%2E/b", "/a/.%2e", "/%2e/"] {
            check_request(path, &[("host", "a")], Err(Unfit::DotSegment));
        }
        for path in ["/.well-known/x", "/a/...", "/a..b", "/a?b=/../c", "/%2f..", "/..a"] {
            check_request(path, &[("host", "a")], Ok(()));
        }
    }

    #[test]
    fn the_only_transfer_coding_is_chunked() {
        let coded = |coding| [("host", "a"), ("transfer-encoding", coding)];
        check_request("/", &coded("Chunked"), Ok(()));
        check_request("/", &coded("gzip, chunked"), Err(Unfit::TransferCoding));
        check_request("/", &coded("chunked, chunked"), Err(Unfit::TransferCoding));
    }
}
