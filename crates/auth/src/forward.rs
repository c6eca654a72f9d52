//! Forward auth: a service of one's own says who a client is (nginx's `auth_request`, Traefik's
//! `forwardAuth`, Envoy's `ext_authz` over HTTP).
//!
//! Pure: what is sent, under which key an answer may be kept, and what an answer means. The edge
//! sends the question to a backend and keeps the answers.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tidewire_runtime::units::Period;
use tidewire_wire::http::forwarded::forwarded_for;

use crate::identity::{Credential, Identity};
use crate::jwt::claims::is_name;

/// Asks a service about each request, and lets in whom it answers with 2xx. Its 401 and 403, and
/// for plain requests its redirects, go to the client. Whatever else it says, or that it says
/// nothing in time, is answered 503.
///
/// It is told what the client asked for in `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto` and
/// `-For`, and nothing else of the request but `request_headers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardConfig {
    /// The name of the backend whose servers are asked.
    pub backend: String,
    /// The path, and perhaps the query, that they are asked for.
    #[serde(default = "root")]
    pub path: String,
    /// How they are asked. No body is sent.
    #[serde(default)]
    pub method: ForwardMethod,
    /// The headers of the client's request that the service gets, as they are.
    #[serde(default = "credentials")]
    pub request_headers: Vec<String>,
    /// Headers of the service's answer that servers get, in place of the client's own. They are
    /// claims, too, named in lower case; one with commas is a list.
    #[serde(default)]
    pub response_headers: Vec<String>,
    /// The header of its answer that names the client (`sub`).
    pub subject: Option<String>,
    /// The header of its answer that says for how many seconds it holds. A WebSocket ends then;
    /// without the header, it does not.
    pub expires: Option<String>,
    /// Headers of the client that were for the service only: servers do not get them.
    #[serde(default = "authorization")]
    pub remove: Vec<String>,
    /// How long an answer may take, with its body.
    #[serde(default = "two_seconds")]
    pub timeout: Period,
    /// How long a worker keeps an answer for requests that ask the same. A refusal is kept for a
    /// second at most. What the service marks `Cache-Control: no-store` is not kept.
    #[serde(default = "never")]
    pub cache: Period,
    /// What makes two requests ask the same: these headers of the client. When it is not set, all
    /// that the service is told, the path and the client's address among it.
    pub cache_key: Option<Vec<String>>,
}

/// The method of the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForwardMethod {
    /// As most services expect.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Spares the service its bodies.
    #[serde(rename = "HEAD")]
    Head,
    /// For services that take nothing else.
    #[serde(rename = "POST")]
    Post,
}

fn root() -> String {
    "/".to_owned()
}

fn credentials() -> Vec<String> {
    vec!["Authorization".to_owned(), "Cookie".to_owned()]
}

fn authorization() -> Vec<String> {
    vec!["Authorization".to_owned()]
}

fn two_seconds() -> Period {
    Period::from_secs(2)
}

fn never() -> Period {
    Period::from_secs(0)
}

/// A [`ForwardConfig`] whose texts are what they have to be.
#[derive(Clone, Debug)]
pub struct Forward {
    method: Method,
    target: Uri,
    request_headers: Vec<HeaderName>,
    response_headers: Vec<HeaderName>,
    subject: Option<HeaderName>,
    expires: Option<HeaderName>,
    remove: Vec<HeaderName>,
    cache_key: Option<Vec<HeaderName>>,
    pub timeout: Duration,
    pub cache: Duration,
}

/// What is wrong with a [`ForwardConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("`{0}` is not a path")]
    NotPath(String),
    #[error("`{0}` is not the name of a header")]
    NotHeader(String),
}

/// What a client asked the edge for.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// The host that it is for, with its port.
    pub host: &'a str,
    pub scheme: &'static str,
    pub peer: IpAddr,
    pub is_websocket: bool,
}

/// What the head of an answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    Allowed(Box<Allowed>),
    /// The client gets this status with these headers, and the body of the answer.
    Denied {
        status: StatusCode,
        headers: HeaderMap,
    },
    /// It says nothing about the client: refused, until the service is right again.
    Broken(&'static str),
}

/// A client that the service lets in.
#[derive(Clone, Debug, PartialEq)]
pub struct Allowed {
    pub identity: Identity,
    /// For servers: each header that they are to get of the answer.
    pub headers: HeaderMap,
}

/// What answers are kept under.
pub type Key = [u8; 32];

impl Forward {
    pub fn new(config: &ForwardConfig) -> Result<Self, ForwardError> {
        let not_path = || ForwardError::NotPath(config.path.clone());
        let target: PathAndQuery = config.path.parse().map_err(|_| not_path())?;
        if !config.path.starts_with('/') {
            return Err(not_path());
        }
        Ok(Self {
            method: config.method.into(),
            target: target.into(),
            request_headers: names(&config.request_headers)?,
            response_headers: names(&config.response_headers)?,
            subject: config.subject.as_deref().map(name).transpose()?,
            expires: config.expires.as_deref().map(name).transpose()?,
            remove: names(&config.remove)?,
            cache_key: config.cache_key.as_deref().map(names).transpose()?,
            timeout: config.timeout.0,
            cache: config.cache.0,
        })
    }

    /// The headers that servers get of an answer.
    pub fn response_headers(&self) -> &[HeaderName] {
        &self.response_headers
    }

    /// The headers of the client that servers do not get.
    pub fn removed(&self) -> &[HeaderName] {
        &self.remove
    }

    /// The question about a request. It is made of nothing but what is listed here: no `Upgrade`,
    /// no key of a handshake, no length of a body that does not come along.
    pub fn question(&self, original: &Original<'_>) -> Request<()> {
        let mut headers = HeaderMap::new();
        for name in &self.request_headers {
            for value in original.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        let mut say = |name: HeaderName, value: &str| {
            // Each of them has been read as a part of a head: it can be one again.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let path = original.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        say(header::HOST, original.host);
        say(X_FORWARDED_METHOD, original.method.as_str());
        say(X_FORWARDED_URI, path);
        say(X_FORWARDED_HOST, original.host);
        say(X_FORWARDED_PROTO, original.scheme);
        headers.insert(X_FORWARDED_FOR, forwarded_for(original.peer));
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }

    /// What the answer about a request may be kept under: equal for requests that ask the same. It
    /// is a digest, so that no credential stays in memory.
    pub fn key(&self, original: &Original<'_>) -> Key {
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        // A redirect is for whoever can follow it.
        part(&[u8::from(is_navigation(original))]);
        for name in self.cache_key.as_ref().unwrap_or(&self.request_headers) {
            part(name.as_str().as_bytes());
            let values = original.headers.get_all(name);
            part(&(values.iter().count() as u64).to_le_bytes());
            values.iter().for_each(|value| part(value.as_bytes()));
        }
        if self.cache_key.is_none() {
            part(original.method.as_str().as_bytes());
            part(original.uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
            part(original.host.as_bytes());
            part(original.scheme.as_bytes());
            part(original.peer.to_string().as_bytes());
        }
        digest.finalize().into()
    }

    /// What an answer to the question about `original` means. `auth` is the name of the `[[auth]]`,
    /// `now` in seconds since 1970.
    pub fn meaning(
        &self,
        auth: &str,
        original: &Original<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        now: u64,
    ) -> Meaning {
        if status.is_success() {
            return self.allowed(auth, headers, now);
        }
        let is_redirect = status.is_redirection() && headers.contains_key(header::LOCATION);
        let status = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => status,
            _ if is_redirect && is_navigation(original) => status,
            // Nobody could follow it to a login page.
            _ if is_redirect => StatusCode::UNAUTHORIZED,
            _ => return Meaning::Broken("the status of its answer is none that it may have"),
        };
        let mut kept = HeaderMap::new();
        for name in OF_REFUSALS.iter().filter(|&name| {
            // The page of a redirect is about the redirect.
            *name != header::LOCATION || status.is_redirection()
        }) {
            kept.extend(headers.get_all(name).iter().map(|value| (name.clone(), value.clone())));
        }
        Meaning::Denied { status, headers: kept }
    }

    fn allowed(&self, auth: &str, headers: &HeaderMap, now: u64) -> Meaning {
        let expires = match self.expires.as_ref().and_then(|name| headers.get(name)) {
            None => None,
            Some(value) => match value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
                Some(seconds) => Some(now.saturating_add(seconds)),
                None => return Meaning::Broken("it says when it ends in no number of seconds"),
            },
        };
        let mut subjects = self.subject.iter().flat_map(|name| headers.get_all(name));
        let subject = match (subjects.next().map(HeaderValue::to_str), subjects.next()) {
            (None, _) => None,
            (Some(Ok(subject)), None) if is_name(subject) => Some(Box::from(subject)),
            // Also two of them: which one a server takes is up to the server.
            _ => return Meaning::Broken("the name that it gives the client is none"),
        };
        let mut kept = HeaderMap::new();
        let mut claims = Map::new();
        for name in &self.response_headers {
            let values = headers.get_all(name);
            if let Some(claim) = claim(values.iter()) {
                claims.insert(name.as_str().to_owned(), claim);
            }
            kept.extend(values.iter().map(|value| (name.clone(), value.clone())));
        }
        if let Some(subject) = &subject {
            claims.insert("sub".to_owned(), Value::String(String::from(&**subject)));
        }
        let credential =
            Credential { auth: auth.into(), subject, token_id: None, issued: None, expires };
        let identity = Identity::new(credential, claims);
        Meaning::Allowed(Box::new(Allowed { identity, headers: kept }))
    }

    /// For how long an answer of these headers may be kept.
    pub fn kept_for(&self, meaning: &Meaning, headers: &HeaderMap, now: u64) -> Duration {
        let is_private = headers.contains_key(header::SET_COOKIE)
            || headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
                value.to_str().is_ok_and(|it| it.to_ascii_lowercase().contains("no-store"))
            });
        match meaning {
            _ if is_private => Duration::ZERO,
            Meaning::Broken(_) => Duration::ZERO,
            Meaning::Denied { .. } => self.cache.min(DENIED_KEPT),
            Meaning::Allowed(allowed) => {
                let left = allowed.identity.expires().map(|at| at.saturating_sub(now));
                self.cache.min(left.map_or(Duration::MAX, Duration::from_secs))
            }
        }
    }
}

/// Whether the client can follow a redirect: a WebSocket cannot, and what has a body or an effect
/// must not.
fn is_navigation(original: &Original<'_>) -> bool {
    !original.is_websocket && matches!(*original.method, Method::GET | Method::HEAD)
}

/// The lines of a header as a claim: a list, when there is more than one element.
fn claim<'v>(values: impl Iterator<Item = &'v HeaderValue>) -> Option<Value> {
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let elements = || texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    match texts.as_slice() {
        [] => None,
        [only] if !only.contains(',') => Some(Value::String((*only).to_owned())),
        _ => Some(elements().filter(|it| !it.is_empty()).map(Value::from).collect()),
    }
}

fn names(texts: &[String]) -> Result<Vec<HeaderName>, ForwardError> {
    texts.iter().map(|text| name(text)).collect()
}

fn name(text: &str) -> Result<HeaderName, ForwardError> {
    text.parse().map_err(|_| ForwardError::NotHeader(text.to_owned()))
}

impl From<ForwardMethod> for Method {
    fn from(method: ForwardMethod) -> Self {
        match method {
            ForwardMethod::Get => Self::GET,
            ForwardMethod::Head => Self::HEAD,
            ForwardMethod::Post => Self::POST,
        }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What of a refusal goes to the client.
const OF_REFUSALS: [HeaderName; 7] = [
    header::WWW_AUTHENTICATE,
    header::SET_COOKIE,
    header::LOCATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
];

/// Longer, and who has logged in meanwhile would wonder.
const DENIED_KEPT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn config() -> ForwardConfig {
        ForwardConfig {
            backend: "auth".into(),
            path: "/verify?x".into(),
            method: ForwardMethod::Get,
            request_headers: credentials(),
            response_headers: vec!["X-User".into(), "X-Groups".into()],
            subject: Some("X-User".into()),
            expires: Some("X-Expires".into()),
            remove: authorization(),
            timeout: two_seconds(),
            cache: Period::from_secs(10),
            cache_key: None,
        }
    }

    fn forward() -> Forward {
        Forward::new(&config()).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn with_original<T>(
        head: &[(&str, &str)],
        uri: &str,
        edit: impl FnOnce(&mut Original<'_>),
        then: impl FnOnce(&Original<'_>) -> T,
    ) -> T {
        let (headers, uri) = (headers(head), uri.parse().unwrap());
        let mut original = Original {
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            host: "a.test:80",
            scheme: "http",
            peer: "192.0.2.1".parse().unwrap(),
            is_websocket: false,
        };
        edit(&mut original);
        then(&original)
    }

    #[test]
    fn the_question_has_the_chosen_headers_and_what_was_asked_for() {
        let head = [
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("x-user", "root"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("content-length", "3"),
            ("x-forwarded-uri", "/harmless"),
        ];
        let question = with_original(&head, "/ws?q=1", |_| {}, |it| forward().question(it));
        assert_eq!(
            (question.method(), question.uri().to_string().as_str()),
            (&Method::GET, "/verify?x")
        );
        let expected = [
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("host", "a.test:80"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/ws?q=1"),
            ("x-forwarded-host", "a.test:80"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        assert_eq!(question.headers(), &headers(&expected));
    }

    #[test]
    fn a_client_without_an_address_is_said_to_have_none() {
        let edit = |original: &mut Original<'_>| original.peer = Ipv4Addr::UNSPECIFIED.into();
        let question = with_original(&[], "/", edit, |it| forward().question(it));
        assert_eq!(question.headers()["x-forwarded-for"], "unknown");
    }

    fn check(status: u16, head: &[(&str, &str)], is_websocket: bool, expected: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let edit = |original: &mut Original<'_>| original.is_websocket = is_websocket;
        let meaning = with_original(&[], "/", edit, |original| {
            forward().meaning("sso", original, status, &headers(head), 100)
        });
        let found = match &meaning {
            Meaning::Allowed(allowed) => {
                let identity = &allowed.identity;
                let claims = Value::Object(identity.claims().clone());
                format!("{:?} until {:?} {claims}", identity.subject(), identity.expires())
            }
            Meaning::Denied { status, headers } => {
                let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
                names.sort_unstable();
                format!("{} with {}", status.as_u16(), names.join(" "))
            }
            Meaning::Broken(why) => format!("broken: {why}"),
        };
        assert_eq!(found, expected, "{status} {head:?}");
    }

    #[test]
    fn only_2xx_allows() {
        let user = [("x-user", "ann"), ("x-groups", "a, b"), ("x-secret", "1")];
        check(
            200,
            &user,
            true,
            r#"Some("ann") until None {"x-user":"ann","x-groups":["a","b"],"sub":"ann"}"#,
        );
        check(204, &[("x-expires", "60")], true, "None until Some(160) {}");
        check(
            200,
            &[("x-expires", "soon")],
            true,
            "broken: it says when it ends in no number of seconds",
        );
        check(
            200,
            &[("x-expires", "-1")],
            true,
            "broken: it says when it ends in no number of seconds",
        );
        check(200, &[("x-user", "")], true, "broken: the name that it gives the client is none");
        for status in [101, 100, 400, 404, 407, 429, 500, 502, 503, 304] {
            check(status, &[], false, "broken: the status of its answer is none that it may have");
        }
    }

    #[test]
    fn a_refusal_is_passed_on_and_a_redirect_only_to_who_can_follow_it() {
        let head = [
            ("www-authenticate", "Basic"),
            ("set-cookie", "a=b"),
            ("x-user", "x"),
            ("server", "s"),
        ];
        check(401, &head, true, "401 with set-cookie www-authenticate");
        check(403, &head, false, "403 with set-cookie www-authenticate");
        let login = [("location", "/login"), ("set-cookie", "a=b")];
        check(302, &login, false, "302 with location set-cookie");
        check(302, &login, true, "401 with set-cookie");
        check(302, &[], false, "broken: the status of its answer is none that it may have");
    }

    #[test]
    fn two_requests_have_one_key_when_they_ask_the_same() {
        let key = |config: &ForwardConfig, head: &[(&str, &str)], uri: &str| {
            let forward = Forward::new(config).unwrap();
            with_original(head, uri, |_| {}, |original| forward.key(original))
        };
        let all = config();
        let of = |config, head: &[(&str, &str)]| key(config, head, "/a");
        let base = of(&all, &[("cookie", "a=b")]);
        assert_eq!(base, of(&all, &[("cookie", "a=b"), ("accept", "x")]));
        for head in [
            &[("cookie", "a=c")][..],
            &[("authorization", "a=b")],
            &[("cookie", "a=b"), ("cookie", "")],
            &[],
        ] {
            assert_ne!(base, of(&all, head), "{head:?}");
        }
        assert_ne!(base, key(&all, &[("cookie", "a=b")], "/b"));
        let chosen = ForwardConfig { cache_key: Some(vec!["cookie".into()]), ..config() };
        let cookie = [("cookie", "a=b"), ("authorization", "x")];
        assert_eq!(key(&chosen, &cookie, "/a"), key(&chosen, &cookie[..1], "/b"));
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_holds_and_is_for_everybody() {
        let check = |status: u16, head: &[(&str, &str)], expected: u64| {
            let (forward, head) = (forward(), headers(head));
            let status = StatusCode::from_u16(status).unwrap();
            let meaning = with_original(
                &[],
                "/",
                |_| {},
                |original| forward.meaning("sso", original, status, &head, 100),
            );
            assert_eq!(forward.kept_for(&meaning, &head, 100).as_secs(), expected, "{head:?}");
        };
        check(200, &[], 10);
        check(200, &[("x-expires", "3")], 3);
        check(200, &[("cache-control", "private, No-Store")], 0);
        check(401, &[], 1);
        check(401, &[("set-cookie", "a=b")], 0);
        check(500, &[], 0);
    }
}
