//! Pages that are part of the program.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use tidewire_edge::static_files::{Builtin, Page};

/// The page, with a policy that allows its own script and style and nothing else.
pub fn builtin(builtin: Builtin) -> Page {
    let content = match builtin {
        Builtin::Demo => DEMO,
    };
    Page {
        content: Bytes::from_static(content.as_bytes()),
        media_type: HeaderValue::from_static("text/html; charset=utf-8"),
        policy: HeaderValue::try_from(policy(content)).ok(),
    }
}

/// `Content-Security-Policy` by hashes: whatever a message brings into the page cannot run.
fn policy(content: &str) -> String {
    let script = hash(between(content, "<script>", "</script>"));
    let style = hash(between(content, "<style>", "</style>"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn between<'c>(content: &'c str, start: &str, end: &str) -> &'c str {
    let (_, rest) = content.split_once(start).expect("an embedded page has one of each");
    rest.split_once(end).expect("an embedded page closes what it opens").0
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

const DEMO: &str = include_str!("../web/index.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_script_and_the_style_of_the_page() {
        assert_eq!(DEMO.matches("<script").count(), 1);
        assert_eq!(DEMO.matches("<style").count(), 1);
        let policy = builtin(Builtin::Demo).policy.unwrap();
        assert_eq!(policy.to_str().unwrap().matches("'sha256-").count(), 2);
    }
}
