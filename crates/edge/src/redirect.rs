//! Redirects and fixed answers.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Body};
use crate::route::host_of;

/// Sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectConfig {
    /// Where to: a path or URL, in which `{host}`, `{path}` and `{query}` (with its `?`) stand for
    /// those of the request.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

/// Answers with a fixed status and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondConfig {
    /// The status, 200 to 599.
    pub status: u16,
    /// The text, `text/plain`.
    #[serde(default)]
    pub body: String,
}

impl RedirectConfig {
    pub fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut to = self
            .to
            .replace("{host}", host_of(uri, headers).unwrap_or_default())
            .replace("{path}", uri.path())
            .replace("{query}", &query);
        if self.to.starts_with(['/', '\\']) || self.to.starts_with("{path}") {
            keep_on_site(&mut to);
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
        let Ok(location) = HeaderValue::from_str(&to) else {
            return answer::text(StatusCode::BAD_REQUEST, "the request cannot be redirected");
        };
        let mut response = answer::text(status, format_args!("see {to}"));
        response.headers_mut().insert(header::LOCATION, location);
        response
    }
}

/// Has what is meant as a path be one: one that begins with two slashes is another host to browsers,
/// and they take a backslash for a slash.
pub(crate) fn keep_on_site(to: &mut String) {
    let end = to.len() - to.trim_start_matches(['/', '\\']).len();
    to.replace_range(..end, "/");
}

impl RespondConfig {
    pub fn answer(&self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        answer::with_type(status, self.body.clone().into(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_a_path_stays_on_its_site() {
        let check = |to: &str, uri: &str, expected: &str| {
            let redirect = RedirectConfig { to: to.into(), status: 302 };
            let response = redirect.answer(&uri.parse().unwrap(), &HeaderMap::new());
            assert_eq!(response.headers()[header::LOCATION], expected, "{to} for {uri}");
        };
        check("{path}{query}", "//evil.test/x?y=//z", "/evil.test/x?y=//z");
        check("{path}", "///evil.test", "/evil.test");
        check("/{path}", "/evil.test", "/evil.test");
        check("/new{path}", "//evil.test", "/new//evil.test");
        check("https://a.test{path}", "//evil.test", "https://a.test//evil.test");
        check("{path}", "/x//y", "/x//y");
    }

    #[test]
    fn a_redirect_can_keep_host_path_and_query() {
        let redirect = RedirectConfig { to: "https://{host}{path}{query}".into(), status: 308 };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("a.test"));
        let response = redirect.answer(&"/x/y?z=1".parse().unwrap(), &headers);
        assert_eq!(response.status(), 308);
        assert_eq!(response.headers()[header::LOCATION], "https://a.test/x/y?z=1");
    }
}
