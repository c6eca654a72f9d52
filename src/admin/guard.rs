//! Who may use what changes the node or tells of its users.
//!
//! A browser of somebody who can reach the listener must not be able to, whatever page it shows:
//! requests with an `Origin` are refused, and without a token so are those for a host name, which
//! an attacker's DNS can make lead here.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use tidewire_auth::secret::Secret;

/// Asks each protected request for what it must have.
#[derive(Debug)]
pub struct Guard {
    pub token: Option<Secret>,
    /// Where the listener is.
    pub address: SocketAddr,
}

/// Why a request is refused.
pub type Refused = (StatusCode, &'static str);

impl Guard {
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
        if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
            return Err((StatusCode::FORBIDDEN, "requests of browsers are not taken"));
        }
        match &self.token {
            Some(token) => check_token(token, headers)?,
            None if !self.address.ip().is_loopback() => {
                let why = "this listener is not on a loopback address; set `[admin] token`";
                return Err((StatusCode::FORBIDDEN, why));
            }
            None if !is_for_loopback(headers) => {
                let why =
                    "ask by the address 127.0.0.1, [::1] or localhost, or set `[admin] token`";
                return Err((StatusCode::FORBIDDEN, why));
            }
            None => {}
        }
        if *method == Method::POST && !is_json(headers) {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json"));
        }
        Ok(())
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), Refused> {
    let mut shown = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return Err((StatusCode::UNAUTHORIZED, "expected Authorization: Bearer and the token"));
    };
    let (scheme, value) = value.as_bytes().split_at(value.len().min(SCHEME.len()));
    match scheme.eq_ignore_ascii_case(SCHEME) && Secret::new(value) == *token {
        true => Ok(()),
        false => Err((StatusCode::UNAUTHORIZED, "this is not the token")),
    }
}

fn is_for_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn check(token: Option<&str>, bind: &str, headers: &[(&str, &str)], expected: u16) {
        let guard = Guard {
            token: token.map(|token| Secret::new(token.as_bytes())),
            address: bind.parse().unwrap(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let found = guard.check(&Method::POST, &map).map_or_else(|(it, _)| it.as_u16(), |()| 200);
        assert_eq!(found, expected, "{token:?} {bind} {headers:?}");
    }

    #[test]
    fn only_who_may_gets_in() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        const LOCAL: &str = "127.0.0.1:9090";
        for host in
            ["127.0.0.1:9090", "localhost", "LOCALHOST:1", "[::1]:9090", "[::1]", "127.0.0.2"]
        {
            check(None, LOCAL, &[("host", host), JSON], 200);
        }
        for host in
            ["evil.test", "evil.test:9090", "localhost.evil.test", "127.0.0.1.evil.test", ""]
        {
            check(None, LOCAL, &[("host", host), JSON], 403);
        }
        let host = ("host", "127.0.0.1:9090");
        check(None, LOCAL, &[JSON], 403);
        check(None, LOCAL, &[host], 415);
        check(None, LOCAL, &[host, ("content-type", "text/plain")], 415);
        check(None, LOCAL, &[host, JSON, ("origin", "http://127.0.0.1:9090")], 403);
        check(None, LOCAL, &[host, JSON, ("origin", "null")], 403);
        check(None, LOCAL, &[host, JSON, ("sec-fetch-site", "none")], 403);
        check(None, "10.0.0.1:9090", &[host, JSON], 403);
        let token = Some("0123456789abcdef");
        let right = ("authorization", "Bearer 0123456789abcdef");
        for bind in [LOCAL, "10.0.0.1:9090"] {
            check(token, bind, &[JSON, right], 200);
            check(token, bind, &[JSON, host], 401);
            check(token, bind, &[JSON, ("authorization", "Bearer 0123456789abcdeX")], 401);
            check(token, bind, &[JSON, ("authorization", "Bearer ")], 401);
            check(token, bind, &[JSON, ("authorization", "x")], 401);
            check(token, bind, &[JSON, right, right], 401);
            check(token, bind, &[JSON, right, ("origin", "https://a.test")], 403);
        }
    }
}
