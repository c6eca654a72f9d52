//! Tokens: what is taken, what is refused, and why.

use std::path::Path;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tidewire_auth::config::AuthConfig;
use tidewire_auth::method::{Accepted, Denied, Found, Method, Presented};

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "a secret of thirty-two bytes, ok";

fn method(text: &str) -> Method {
    let config: AuthConfig = toml::from_str(text).unwrap();
    Method::new(&config, Path::new("")).unwrap().unwrap()
}

fn token() -> String {
    let claims = json!({ "sub": "ann", "jti": "t1", "iat": NOW, "exp": NOW + 60, "team": "a" });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

async fn authenticate(method: &Method, lines: &[&str]) -> Result<Accepted, Denied> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
    }
    let presented =
        Presented { headers: &headers, query: None, subprotocols: &[], certificate: None };
    method.authenticate(&presented, NOW).await
}

#[tokio::test]
async fn a_good_token_in_the_authorization_header_is_an_identity() {
    let method = method(&format!("name = 'users'\njwt = {{ secret = '{SECRET}' }}"));
    let accepted = authenticate(&method, &[&format!("Bearer {}", token())]).await.unwrap();
    assert_eq!(accepted.found, Found::Header(AUTHORIZATION));
    assert!(!accepted.is_passed_on);
    let identity = accepted.identity;
    assert_eq!((identity.subject(), identity.expires()), (Some("ann"), Some(NOW + 90)));
    assert_eq!(identity.claim("team"), Some(&json!("a")));
    let credential = identity.credentials().next().unwrap();
    assert_eq!((&*credential.auth, credential.token_id.as_deref()), ("users", Some("t1")));
}

#[tokio::test]
async fn without_a_token_or_with_two_nobody_is_let_in() {
    let method = method(&format!("name = 'users'\njwt = {{ secret = '{SECRET}' }}"));
    let token = format!("Bearer {}", token());
    assert!(matches!(authenticate(&method, &[]).await, Err(Denied::Missing(_))));
    assert!(matches!(authenticate(&method, &["Basic YTpi"]).await, Err(Denied::Missing(_))));
    let two = authenticate(&method, &[&token, "Bearer x"]).await;
    assert!(matches!(two, Err(Denied::Invalid(_))), "{two:?}");
    assert_eq!(method.challenge(), "Bearer realm=\"users\"");
}
