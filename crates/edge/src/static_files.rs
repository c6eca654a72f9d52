//! Files and embedded pages, so that the page of a WebSocket application needs no other server.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_http::services::ServeDir;
use tower_service::Service;

use crate::answer::{self, Body};
use crate::path::PathPattern;

/// Where a route's files are. Exactly one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    /// A directory; `index.html` answers for a directory in it. The path of the request is the path
    /// below it, after what the route's pattern names literally.
    pub dir: Option<PathBuf>,
    /// A page that is part of the program: `demo`, the page of `tidewire up`.
    pub builtin: Option<Builtin>,
}

/// A page that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// The page of `tidewire up`: two clients side by side.
    Demo,
}

/// A route's files at run time.
#[derive(Debug)]
pub enum StaticFiles {
    /// A directory, and the part of the path that names it.
    Dir {
        dir: PathBuf,
        mount: String,
    },
    Page(Page),
}

/// A page in memory.
#[derive(Clone, Debug)]
pub struct Page {
    pub content: Bytes,
    pub media_type: HeaderValue,
    /// Its `Content-Security-Policy`.
    pub policy: Option<HeaderValue>,
}

impl StaticFiles {
    pub fn dir(dir: &Path, pattern: &PathPattern) -> Self {
        let pattern = pattern.to_string();
        let literal = pattern.find(['{', '*']).map_or(&pattern[..], |end| &pattern[..end]);
        // What lies below `/files/` is named by what follows it; `/` and exact paths keep theirs.
        let mount = literal.strip_suffix('/').unwrap_or("").to_owned();
        Self::Dir { dir: dir.to_owned(), mount }
    }

    /// Answers GET and HEAD for `uri`, with `headers` for conditions and ranges.
    pub async fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match self {
            Self::Page(page) => page.answer(),
            Self::Dir { dir, mount } => file(dir, mount, method, uri, headers).await,
        }
    }
}

impl Page {
    fn answer(&self) -> Response<Body> {
        let mut response =
            answer::with_type(StatusCode::OK, self.content.clone(), self.media_type.clone());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Some(policy) = &self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }
}

async fn file(
    dir: &Path,
    mount: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response<Body> {
    let below = uri.path().strip_prefix(mount).unwrap_or(uri.path());
    let Ok(target) = below.parse::<Uri>() else {
        return answer::text(StatusCode::NOT_FOUND, "no such file");
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = headers.clone();
    let response = match ServeDir::new(dir).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if response.status() == StatusCode::NOT_FOUND {
        return answer::text(StatusCode::NOT_FOUND, "no such file");
    }
    response.map(Body::file)
}
