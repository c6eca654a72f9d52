//! What rules and routes change of a request on its way to a server, and of its answer.
//!
//! All texts are filled in before anybody is asked who the client is, and put in place where
//! nothing of the client's can undo them: behind what drops headers that its `Connection` names.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, StatusCode};

use super::condition::Asked;
use super::template::Template;
use crate::answer::{self, Body};
use crate::hygiene::check_path;
use crate::path::PathPattern;

/// What is changed of requests, and of their answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The path that servers get.
    pub rewrite: Option<Template>,
    pub request: HeaderEdits,
    pub response: HeaderEdits,
}

/// What is changed of headers: what goes, then what is set, then what is added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    pub remove: Vec<HeaderName>,
    /// In place of all that has the name.
    pub set: Vec<(HeaderName, Template)>,
    /// Beside what has the name.
    pub add: Vec<(HeaderName, Template)>,
}

/// The changes for one request, as they are made.
#[derive(Debug, Default)]
pub struct Made {
    path: Option<String>,
    request: Vec<Edit>,
    response: Vec<Edit>,
}

#[derive(Debug)]
enum Edit {
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
}

/// The path that a request would get is none that may go to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path cannot be rewritten")]
pub struct Unwritable;

impl Changes {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds these changes for a request to those made so far; the last path is the one that counts.
    pub fn make(
        &self,
        asked: &Asked<'_>,
        patterns: &[PathPattern],
        made: &mut Made,
    ) -> Result<(), Unwritable> {
        if let Some(rewrite) = &self.rewrite {
            let path = rewrite.fill(asked, patterns).filter(|path| is_path(path));
            made.path = Some(path.ok_or(Unwritable)?);
        }
        self.request.make(asked, patterns, &mut made.request);
        self.response.make(asked, patterns, &mut made.response);
        Ok(())
    }
}

impl Unwritable {
    pub fn answer(self) -> Response<Body> {
        answer::text(StatusCode::BAD_REQUEST, self)
    }
}

impl HeaderEdits {
    pub fn is_nothing(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    fn make(&self, asked: &Asked<'_>, patterns: &[PathPattern], edits: &mut Vec<Edit>) {
        let value = |template: &Template| value(&template.fill(asked, patterns)?);
        edits.extend(self.remove.iter().cloned().map(Edit::Remove));
        edits.extend(self.set.iter().map(|(name, template)| match value(template) {
            Some(value) => Edit::Set(name.clone(), value),
            None => Edit::Remove(name.clone()),
        }));
        edits.extend(
            self.add
                .iter()
                .filter_map(|(name, template)| Some(Edit::Add(name.clone(), value(template)?))),
        );
    }
}

impl Made {
    /// Changes a request that is rebuilt already.
    pub fn change(&self, mut request: Request<()>) -> Request<()> {
        if let Some(path) = &self.path {
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            // `make` has looked at the path, and hyper at the query.
            if let Ok(target) = PathAndQuery::try_from(format!("{path}{query}")) {
                *request.uri_mut() = Uri::from(target);
            }
        }
        apply(&self.request, request.headers_mut());
        request
    }

    pub fn change_response(&self, headers: &mut HeaderMap) {
        apply(&self.response, headers);
    }
}

fn apply(edits: &[Edit], headers: &mut HeaderMap) {
    for edit in edits {
        match edit {
            Edit::Remove(name) => {
                if let Entry::Occupied(entry) = headers.entry(name) {
                    entry.remove_entry_mult();
                }
            }
            Edit::Set(name, value) => drop(headers.insert(name, value.clone())),
            Edit::Add(name, value) => drop(headers.append(name, value.clone())),
        }
    }
}

/// No control characters: what a client has put into a text ends no line.
fn value(text: &str) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text.trim_matches([' ', '\t'])).ok()?;
    (!value.as_bytes().contains(&b'\t')).then_some(value)
}

/// Whether a path says the same to all servers. One with empty segments or dots is none that a
/// route or a rule has been found for.
pub fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && !path.contains(['?', '#'])
        && check_path(path).is_ok()
        && PathAndQuery::try_from(path).is_ok_and(|target| target.path() == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_path_says_the_same_to_all_servers() {
        for good in ["/", "/a", "/a/b%20c", "/a/%2Fb", "/a;x", "/.well-known/x", "/a/"] {
            assert!(is_path(good), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "//",
            "//a",
            "/a//b",
            "/../a",
            "/a/..",
            "/a/%2e%2e/b",
            "/a/..;/b",
            "/a\\b",
            "/%5ca",
            "/a%00",
            "/a%0d%0ab",
            "/a%",
            "/a?b",
            "/a#b",
            "/a b",
            "/a\r\nb",
            "*",
        ] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }

    #[test]
    fn headers_go_are_set_and_are_added_in_this_order() {
        let name = |name: &'static str| HeaderName::from_static(name);
        let text = |text: &str| Template::parse(text).unwrap();
        let edits = HeaderEdits {
            remove: vec![name("a"), name("b"), name("absent")],
            set: vec![(name("b"), text("2")), (name("c"), text("3"))],
            add: vec![(name("c"), text("4")), (name("d"), text("5"))],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("a", "1"), ("a", "1"), ("b", "1"), ("c", "1"), ("c", "1"), ("d", "1")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        let (uri, method) = (Uri::from_static("/"), http::Method::GET);
        let asked = Asked {
            listener: 0,
            client: "::1".parse().unwrap(),
            is_tls: false,
            method: &method,
            uri: &uri,
            headers: &HeaderMap::new(),
            is_websocket: false,
            offer: None,
        };
        let mut made = Vec::new();
        edits.make(&asked, &[], &mut made);
        apply(&made, &mut headers);
        let all = |name: &str| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(["a", "b", "c", "d"].map(all), ["", "2", "3 4", "1 5"]);
    }

    #[test]
    fn a_value_never_ends_its_line() {
        for bad in ["a\r\nb", "a\nb", "a\0", "a\tb", "\u{7f}"] {
            assert_eq!(value(bad), None, "{bad:?}");
        }
        assert_eq!(value(" a b ").unwrap(), "a b");
    }
}
