//! CORS: which answers a browser shows to the pages of other sites (Fetch, section 3.3).
//!
//! Who they are is the route's `origin`; this is what they may do. The edge answers preflights, and
//! writes the headers of every answer itself: what a server says about it is removed, so that there
//! is one truth.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;
use tidewire_wire::http::tokens::tokens;

use crate::answer::{self, Body};
use crate::origin::{self, OriginConfig, Verdict};
use crate::origin_pattern::OriginPattern;

/// What pages of other sites may do with plain HTTP. Which sites is in the route's `origin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Whether their requests may carry the visitor's cookies and credentials, and they may read
    /// what is answered to those.
    pub credentials: bool,
    /// The methods that they may use. `OPTIONS` is always answered.
    pub methods: Vec<String>,
    /// The headers that they may set; `["*"]` is any. Those that every page may set need not be
    /// here.
    pub headers: Vec<String>,
    /// The headers of answers that their scripts may read, besides those that every page may.
    pub expose: Vec<String>,
    /// How long a browser may go by the answer to a preflight. Chromium does for 2 hours at most.
    pub max_age: Period,
    /// Whether pages from the internet may reach this from within a private network, where
    /// browsers ask about it (`Access-Control-Request-Private-Network`).
    pub private_network: bool,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            credentials: false,
            methods: owned(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            headers: owned(&["Authorization", "Content-Type"]),
            expose: Vec::new(),
            max_age: Period::from_secs(600),
            private_network: false,
        }
    }
}

/// A route's CORS at run time.
#[derive(Clone, Debug)]
pub struct Cors {
    credentials: bool,
    methods: Vec<Method>,
    /// In lower case; `None` is any.
    headers: Option<Vec<HeaderName>>,
    private_network: bool,
    allow_methods: HeaderValue,
    allow_headers: HeaderValue,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// A name in a [`CorsConfig`] that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    #[error("`{0}` is not a method")]
    Method(String),
    #[error("`{0}` is not the name of a header")]
    Header(String),
}

/// What a request gets because of the page that sent it.
#[derive(Debug)]
pub enum Ruled {
    /// It is answered already: a preflight, or a request that the page must not send.
    Answered(Box<Response<Body>>),
    /// It goes on, and its answer is marked.
    GoesOn(Marks),
}

/// What is to be written into the head of an answer.
#[derive(Debug, Default)]
pub struct Marks(Option<Box<Marking>>);

#[derive(Debug)]
struct Marking {
    /// For `Access-Control-Allow-Origin`.
    allow: Option<HeaderValue>,
    credentials: bool,
    expose: Option<HeaderValue>,
}

/// Whether a request asks in the name of another one that is to come (Fetch, section 3.3.2).
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    pub fn new(config: &CorsConfig) -> Result<Self, CorsError> {
        let method = |name: &String| {
            // Methods are case-sensitive; browsers make upper case of the usual ones.
            let method = Method::from_bytes(name.as_bytes()).ok();
            method.ok_or_else(|| CorsError::Method(name.clone()))
        };
        let header = |name: &String| {
            let header = HeaderName::from_bytes(name.as_bytes()).ok();
            header.ok_or_else(|| CorsError::Header(name.clone()))
        };
        let listed = |names: &[String]| {
            let names = names.iter().filter(|name| *name != "*");
            names.map(header).collect::<Result<Vec<_>, _>>()
        };
        let methods = config.methods.iter().map(method).collect::<Result<Vec<_>, _>>()?;
        let headers = listed(&config.headers)?;
        listed(&config.expose)?;
        let is_any = config.headers.iter().any(|name| name == "*");
        let list = |names: &[String]| {
            HeaderValue::from_str(&names.join(", ")).expect("names of headers are header values")
        };
        Ok(Self {
            credentials: config.credentials,
            methods,
            headers: (!is_any).then_some(headers),
            private_network: config.private_network,
            allow_methods: list(&config.methods),
            allow_headers: list(&config.headers),
            expose: (!config.expose.is_empty()).then(|| list(&config.expose)),
            max_age: config.max_age.0.as_secs().into(),
        })
    }

    /// Rules on a plain request, whose page was judged by the route's `origin`.
    pub fn rule(&self, request: &Parts, verdict: Verdict, config: &OriginConfig) -> Ruled {
        let is_preflight = is_preflight(&request.method, &request.headers);
        let refuse = |detail: String| {
            let mut response = answer::text(StatusCode::FORBIDDEN, detail);
            vary_by_origin(response.headers_mut());
            Ruled::Answered(Box::new(response))
        };
        let goes_on = |allow| {
            let (credentials, expose) = (self.credentials, self.expose.clone());
            Ruled::GoesOn(Marks(Some(Box::new(Marking { allow, credentials, expose }))))
        };
        match verdict {
            Verdict::Allowed if is_preflight => match self.preflight(request, config) {
                Ok(response) => Ruled::Answered(Box::new(response)),
                Err(detail) => refuse(detail),
            },
            // What a browser sends without asking first, and a method that no page may use.
            Verdict::Allowed if !self.takes(&request.method) => refuse(format!(
                "method {} is not one of the route's `cors.methods`",
                request.method
            )),
            Verdict::Allowed => goes_on(self.allow_origin(&request.headers, config)),
            // A refused page cannot read the answer of what is safe, so that may go on, as it would
            // without a browser between. The rest would do its harm unread.
            Verdict::Refused(_) if is_preflight || !is_safe(&request.method) => {
                let shown = origin::shown(&request.headers);
                let method = &request.method;
                refuse(match is_preflight {
                    true => format!(
                        "pages of {shown} may not ask here; the route's `origin.allow` lists the \
                         sites that may"
                    ),
                    false => format!(
                        "pages of {shown} may not send {method} here; the route's `origin.allow` \
                         lists the sites that may"
                    ),
                })
            }
            Verdict::Absent | Verdict::Same | Verdict::Refused(_) => goes_on(None),
        }
    }

    /// The answer to a preflight of a page that is allowed, or why there is none.
    fn preflight(&self, request: &Parts, config: &OriginConfig) -> Result<Response<Body>, String> {
        let asked = &request.headers;
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes);
        let wanted = wanted.unwrap_or_default();
        if !self.methods.iter().any(|method| method.as_str().as_bytes() == wanted) {
            let shown = cut(wanted).escape_ascii().to_string();
            return Err(format!("method {shown} is not one of the route's `cors.methods`"));
        }
        if let Some(name) = self.unlisted_header(asked) {
            return Err(format!("header {name} is not one of the route's `cors.headers`"));
        }
        let mut response = Response::new(Body::own(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if let Some(origin) = self.allow_origin(asked, config) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone());
        // Any header is said by naming those that were asked for: browsers do not take `*` for
        // `Authorization`, nor at all together with credentials.
        let allow_headers = match &self.headers {
            Some(_) => Some(self.allow_headers.clone()).filter(|it| !it.is_empty()),
            None => asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        };
        if let Some(names) = allow_headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if self.private_network && asked.contains_key(REQUEST_PRIVATE_NETWORK) {
            headers.insert(ALLOW_PRIVATE_NETWORK, TRUE);
        }
        headers.insert(header::VARY, HeaderValue::from_static(PREFLIGHT_VARIES_BY));
        Ok(response)
    }

    /// The first header that a preflight asks for and that no page may set.
    fn unlisted_header(&self, asked: &HeaderMap) -> Option<String> {
        let wanted = tokens(asked, &header::ACCESS_CONTROL_REQUEST_HEADERS);
        let is_listed = |wanted: &[u8]| {
            let Ok(name) = HeaderName::from_bytes(wanted) else { return false };
            self.headers.as_ref().is_none_or(|listed| listed.contains(&name))
        };
        let unlisted = { wanted }.find(|wanted| !is_listed(wanted))?;
        Some(cut(unlisted).escape_ascii().to_string())
    }

    fn takes(&self, method: &Method) -> bool {
        method == Method::OPTIONS || self.methods.contains(method)
    }

    /// The page's own origin, as it wrote it; `*` where that says the same to all of them.
    fn allow_origin(&self, asked: &HeaderMap, config: &OriginConfig) -> Option<HeaderValue> {
        match config.allow.contains(&OriginPattern::Any) && !self.credentials {
            true => Some(HeaderValue::from_static("*")),
            false => asked.get(header::ORIGIN).cloned(),
        }
    }
}

impl Marks {
    /// Writes them into the head of an answer. What a server has said about CORS goes.
    pub fn write(self, headers: &mut HeaderMap) {
        let Some(marking) = self.0 else { return };
        let said = headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
        for name in said.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        vary_by_origin(headers);
        let Some(origin) = marking.allow else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if marking.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(names) = marking.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
    }
}

/// Says what an answer depends on, so that a cache does not give one page's to another (RFC 9110,
/// section 12.5.5).
fn vary_by_origin(headers: &mut HeaderMap) {
    let is_said = tokens(headers, &header::VARY)
        .any(|token| token == b"*" || token.eq_ignore_ascii_case(b"origin"));
    if !is_said {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Whether a method is for reading only (RFC 9110, section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// As much as is shown of what a client has sent.
fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(SHOWN_MAX)]
}

const SHOWN_MAX: usize = 60;

const TRUE: HeaderValue = HeaderValue::from_static("true");

const PREFLIGHT_VARIES_BY: &str = "Origin, Access-Control-Request-Method, \
    Access-Control-Request-Headers, Access-Control-Request-Private-Network";

/// Private Network Access, draft of the W3C.
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::origin::Transport;

    fn config() -> (CorsConfig, OriginConfig) {
        let allow = vec!["https://app.test".parse().unwrap()];
        (CorsConfig::default(), OriginConfig { allow, ..OriginConfig::default() })
    }

    /// The answer's head to a request of these lines: as `200` and the headers that a server's
    /// answer has in the end, or as what the edge answers itself.
    fn rule(
        (cors, origin): &(CorsConfig, OriginConfig),
        method: &str,
        lines: &[(&str, &str)],
    ) -> (u16, HeaderMap) {
        let mut request = Request::builder().method(method).uri("/x").header("host", "api.test");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let verdict = origin.judge(&parts.headers, Some("api.test"), Transport::Plain);
        match Cors::new(cors).unwrap().rule(&parts, verdict, origin) {
            Ruled::Answered(response) => (response.status().as_u16(), response.headers().clone()),
            Ruled::GoesOn(marks) => {
                let mut headers = HeaderMap::new();
                headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
                headers.insert("access-control-allow-made-up", HeaderValue::from_static("x"));
                headers.insert("vary", HeaderValue::from_static("Accept"));
                marks.write(&mut headers);
                (200, headers)
            }
        }
    }

    #[track_caller]
    fn check(found: &(u16, HeaderMap), status: u16, expected: &[(&str, &str)]) {
        let mut said: Vec<(&str, &str)> = found
            .1
            .iter()
            .filter(|(name, _)| name.as_str() != "content-type")
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        said.sort_unstable();
        assert_eq!((found.0, said.as_slice()), (status, expected));
    }

    const APP: (&str, &str) = ("origin", "https://app.test");
    const EVIL: (&str, &str) = ("origin", "https://evil.test");

    #[test]
    fn what_a_server_says_about_cors_is_replaced() {
        let config = config();
        let marked: &[_] = &[
            ("access-control-allow-origin", "https://app.test"),
            ("vary", "Accept"),
            ("vary", "Origin"),
        ];
        let bare: &[_] = &[("vary", "Accept"), ("vary", "Origin")];
        check(&rule(&config, "GET", &[APP]), 200, marked);
        check(&rule(&config, "POST", &[APP]), 200, marked);
        check(&rule(&config, "GET", &[]), 200, bare);
        check(&rule(&config, "POST", &[]), 200, bare);
        check(&rule(&config, "POST", &[("origin", "https://api.test")]), 200, bare);
        check(&rule(&config, "GET", &[EVIL]), 200, bare);
        check(&rule(&config, "GET", &[("origin", "null")]), 200, bare);
    }

    #[test]
    fn what_a_refused_page_must_not_do_is_not_done() {
        let config = config();
        for method in ["POST", "PUT", "DELETE", "PROPFIND"] {
            for origin in ["https://evil.test", "null", "http://app.test", "https://app.test/"] {
                let found = rule(&config, method, &[("origin", origin)]);
                check(&found, 403, &[("vary", "Origin")]);
            }
        }
        check(&rule(&config, "PROPFIND", &[APP]), 403, &[("vary", "Origin")]);
        check(&rule(&config, "POST", &[APP, APP]), 403, &[("vary", "Origin")]);
    }

    #[test]
    fn a_preflight_is_answered_or_refused() {
        let mut config = config();
        let asks = |method| ("access-control-request-method", method);
        let sets = |names| ("access-control-request-headers", names);
        let expected = [
            ("access-control-allow-headers", "Authorization, Content-Type"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("access-control-allow-origin", "https://app.test"),
            ("access-control-max-age", "600"),
            ("vary", PREFLIGHT_VARIES_BY),
        ];
        let ask = |config: &_, lines: &[_]| rule(config, "OPTIONS", lines);
        check(&ask(&config, &[APP, asks("PUT")]), 204, &expected);
        check(&ask(&config, &[APP, asks("PUT"), sets("content-type")]), 204, &expected);
        for lines in [
            &[EVIL, asks("PUT")][..],
            &[("origin", "null"), asks("PUT")],
            &[APP, asks("put")],
            &[APP, asks("PURGE")],
            &[APP, asks("")],
            &[APP, asks("PUT"), sets("content-type, x-other")],
            &[APP, asks("PUT"), sets("a b")],
        ] {
            check(&ask(&config, lines), 403, &[("vary", "Origin")]);
        }
        // Without what makes a preflight of it, OPTIONS is a request like any other.
        assert_eq!(ask(&config, &[APP]).0, 200);
        assert_eq!(ask(&config, &[asks("PUT")]).0, 200);
        config.0.headers = vec!["*".to_owned()];
        config.0.credentials = true;
        config.0.private_network = true;
        let private = ("access-control-request-private-network", "true");
        let found = ask(&config, &[APP, asks("PUT"), sets("x-a, authorization"), private]);
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "x-a, authorization"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("access-control-allow-origin", "https://app.test"),
            ("access-control-allow-private-network", "true"),
            ("access-control-max-age", "600"),
            ("vary", PREFLIGHT_VARIES_BY),
        ];
        check(&found, 204, &expected);
    }

    #[test]
    fn credentials_and_exposed_headers_are_for_pages_that_are_allowed() {
        let mut config = config();
        config.0.credentials = true;
        config.0.expose = vec!["X-Total".to_owned()];
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", "https://app.test"),
            ("access-control-expose-headers", "X-Total"),
            ("vary", "Accept"),
            ("vary", "Origin"),
        ];
        check(&rule(&config, "GET", &[APP]), 200, &expected);
        check(&rule(&config, "GET", &[EVIL]), 200, &expected[3..]);
    }

    #[test]
    fn everybody_is_a_star_and_never_gets_an_origin_back() {
        let mut config = config();
        config.1.allow = vec![OriginPattern::Any];
        let expected =
            [("access-control-allow-origin", "*"), ("vary", "Accept"), ("vary", "Origin")];
        check(&rule(&config, "GET", &[EVIL]), 200, &expected);
        check(&rule(&config, "POST", &[("origin", "null")]), 200, &expected);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let with = |edit: fn(&mut CorsConfig)| {
            let mut config = CorsConfig::default();
            edit(&mut config);
            Cors::new(&config).map(drop)
        };
        let header = |name: &str| Err(CorsError::Header(name.into()));
        assert_eq!(
            with(|it| it.methods = vec!["G T".into()]),
            Err(CorsError::Method("G T".into()))
        );
        assert_eq!(with(|it| it.headers = vec!["X A".into()]), header("X A"));
        assert_eq!(with(|it| it.expose = vec!["".into()]), header(""));
        assert_eq!(with(|it| it.expose = vec!["*".into(), "\u{1}".into()]), header("\u{1}"));
        assert_eq!(with(|it| it.expose = vec!["*".into()]), Ok(()));
    }
}
