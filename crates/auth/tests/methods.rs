//! API keys, passwords and client certificates; and where credentials may be in a request.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::json;
use tidewire_auth::config::AuthConfig;
use tidewire_auth::method::{Accepted, Denied, Found, Method, MethodFault, Presented};
use tidewire_auth::{api_key, basic};

const NOW: u64 = 1_700_000_000;

fn method_in(dir: &Path, text: &str) -> Result<Method, MethodFault> {
    let config: AuthConfig = toml::from_str(&format!("name = 'users'\n{text}")).expect(text);
    Method::new(&config, dir).map(|method| method.expect("there is one"))
}

/// What a client sends.
#[derive(Clone, Default)]
struct Sent {
    headers: HeaderMap,
    query: Option<&'static str>,
    subprotocols: Vec<&'static str>,
}

impl Sent {
    fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    fn query(query: &'static str) -> Self {
        Self { query: Some(query), ..Self::default() }
    }

    fn offers(offers: &[&'static str]) -> Self {
        Self { subprotocols: offers.to_vec(), ..Self::default() }
    }

    async fn to(&self, method: &Method) -> Result<Accepted, Denied> {
        let presented = Presented {
            headers: &self.headers,
            query: self.query,
            subprotocols: &self.subprotocols,
            certificate: None,
        };
        method.authenticate(&presented, NOW).await
    }
}

fn basic_of(text: &str) -> Sent {
    Sent::default().header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(text)))
}

/// One word for what came of it.
fn said(result: &Result<Accepted, Denied>) -> String {
    match result {
        Ok(accepted) => accepted.identity.subject().unwrap_or("nobody").to_owned(),
        Err(Denied::Missing(_)) => "missing".into(),
        Err(Denied::Invalid(why)) => why.clone(),
        Err(other) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_credential_is_found_where_it_may_be_and_only_once() {
    let found = |place: &str, sent: Sent| {
        let config = format!("api_key = {{ key = 'a-key-of-16-bytes', from = ['{place}'] }}");
        let method = method_in(Path::new(""), &config).unwrap();
        async move {
            let result = sent.to(&method).await;
            match result {
                Ok(accepted) => format!("{:?}", accepted.found),
                refused => said(&refused),
            }
        }
    };
    let twice = "the credentials are there twice";
    let malformed = "the credentials are malformed";
    let none = Sent::default;
    let cookie = |line: &str| Sent::default().header(COOKIE, line);
    let x = HeaderName::from_static("x-token");
    let cases = [
        ("authorization", none(), "missing"),
        ("authorization", none().header(AUTHORIZATION, "Bearer a-key-of-16-bytes"), "Header"),
        ("authorization", none().header(AUTHORIZATION, "bEARER   a-key-of-16-bytes"), "Header"),
        ("authorization", none().header(AUTHORIZATION, "Bearer"), malformed),
        ("authorization", none().header(AUTHORIZATION, "Bearer  "), malformed),
        ("authorization", none().header(AUTHORIZATION, "Bearer\ta-key-of-16-bytes"), "missing"),
        ("authorization", none().header(AUTHORIZATION, "Bearer a-key-of-16-bytes,"), "not valid"),
        ("authorization", none().header(AUTHORIZATION, b"Bearer \xff"), malformed),
        (
            "authorization",
            none().header(AUTHORIZATION, "Bearer a").header(AUTHORIZATION, "Basic b"),
            twice,
        ),
        ("header:X-Token", none().header(x.clone(), "a-key-of-16-bytes"), "Header(\"x-token\")"),
        ("header:X-Token", none().header(x.clone(), "a").header(x.clone(), "a"), twice),
        ("header:X-Token", none().header(x, "a, b"), "not valid"),
        ("cookie:s", cookie("s=a-key-of-16-bytes"), "Cookie(\"s\")"),
        ("cookie:s", cookie("a=1;s=\"a-key-of-16-bytes\" ; b=2"), "Cookie(\"s\")"),
        ("cookie:s", cookie("S=a-key-of-16-bytes"), "missing"),
        ("cookie:s", cookie("xs=a-key-of-16-bytes"), "missing"),
        ("cookie:s", cookie("s=a-key-of-16-bytes; s=a-key-of-16-bytes"), twice),
        ("cookie:s", cookie("s=a").header(COOKIE, "s=b"), twice),
        ("query:t", Sent::query("t=a-key-of-16-bytes"), "Query(\"t\")"),
        ("query:t", Sent::query("x=1&%74=a%2Dkey-of-16-bytes"), "Query(\"t\")"),
        ("query:t", Sent::query("t=a&%74=b"), twice),
        ("query:t", Sent::query("t=%zz"), malformed),
        ("query:t", Sent::query("t=%ff"), malformed),
        ("query:t", Sent::query("T=a-key-of-16-bytes"), "missing"),
        (
            "subprotocol:bearer",
            Sent::offers(&["v1", "bearer", "a-key-of-16-bytes"]),
            "offers: 1..3, answer: \"bearer\"",
        ),
        (
            "subprotocol:bearer",
            Sent::offers(&["bearer.a-key-of-16-bytes", "v1"]),
            "offers: 0..1, answer: \"bearer.a-key-of-16-bytes\"",
        ),
        ("subprotocol:bearer", Sent::offers(&["v1", "bearer"]), malformed),
        ("subprotocol:bearer", Sent::offers(&["bearer", "a", "bearer", "b"]), twice),
        ("subprotocol:bearer", Sent::offers(&["bearer.a", "bearer.b"]), twice),
        ("subprotocol:bearer", Sent::offers(&["bearer", "bearer.a"]), "not valid"),
        ("subprotocol:bearer", Sent::offers(&["Bearer", "a-key-of-16-bytes"]), "missing"),
        ("subprotocol:bearer", Sent::offers(&["bearerx", "v1"]), "missing"),
    ];
    for (place, sent, expected) in cases {
        let shown = (place, sent.headers.clone(), sent.query, sent.subprotocols.clone());
        let said = found(place, sent).await;
        assert!(said.contains(expected), "{shown:?}: expected {expected:?}, said {said:?}");
    }
}

#[tokio::test]
async fn the_first_place_that_has_something_counts() {
    let config = "api_key = { key = 'a-key-of-16-bytes', from = ['cookie:s', 'query:t'] }";
    let method = method_in(Path::new(""), config).unwrap();
    let both = Sent::query("t=a-key-of-16-bytes").header(COOKIE, "s=wrong");
    assert_eq!(said(&both.to(&method).await), "the API key is not valid");
    assert_eq!(said(&Sent::query("t=a-key-of-16-bytes").to(&method).await), "users");
}

#[tokio::test]
async fn api_keys_are_known_by_their_hash_and_bring_claims() {
    let dir = tempfile::tempdir().unwrap();
    let (key, line) = api_key::make("billing");
    let (other, other_line) = api_key::make("ops");
    let file =
        format!("# keys\n\n{line} {{\"role\":\"admin\",\"sub\":\"root\"}}\r\n{other_line}\n");
    std::fs::write(dir.path().join("keys"), &file).unwrap();
    let method = method_in(dir.path(), "api_key = { file = 'keys' }").unwrap();
    let with = |key: &str| Sent::default().header(HeaderName::from_static("x-api-key"), key);
    let accepted = with(&key).to(&method).await.unwrap();
    assert_eq!(accepted.identity.claim("role"), Some(&json!("admin")));
    assert_eq!(accepted.identity.claim("sub"), Some(&json!("billing")), "the name is the subject");
    assert_eq!(said(&with(&other).to(&method).await), "ops");
    let hash = line.split(':').nth(1).unwrap();
    for wrong in ["", "tw_", hash, &line, &key.to_lowercase(), &"x".repeat(2000)] {
        assert!(with(wrong).to(&method).await.is_err(), "{wrong}");
    }
    assert!(matches!(Sent::default().to(&method).await, Err(Denied::Missing(_))));
    assert!(method.authenticate_token(&key, NOW).is_err());
}

#[tokio::test]
async fn passwords_are_checked_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let line = basic::line("ann", "päss:word").unwrap();
    std::fs::write(dir.path().join("users"), format!("{line} {{\"team\":\"a\"}}\n")).unwrap();
    let new = || method_in(dir.path(), "basic = { users = 'users' }").unwrap();
    let method = new();
    let accepted = basic_of("ann:päss:word").to(&method).await.unwrap();
    assert_eq!(accepted.identity.claim("team"), Some(&json!("a")));
    assert_eq!(accepted.found, Found::Header(AUTHORIZATION));
    // The best of some, as a busy machine may hold up any of them.
    let (mut first, mut more) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let method = new();
        let begun = Instant::now();
        assert_eq!(said(&basic_of("ann:päss:word").to(&method).await), "ann");
        first = first.min(begun.elapsed());
        let begun = Instant::now();
        for _ in 0..30 {
            assert_eq!(said(&basic_of("ann:päss:word").to(&method).await), "ann");
        }
        more = more.min(begun.elapsed());
    }
    assert!(more < first * 10, "{more:?}, the first took {first:?}");
    // Who is unknown is told as late as who is wrong.
    let wrong = "the name or the password is wrong";
    let begun = Instant::now();
    assert_eq!(said(&basic_of("bob:päss:word").to(&method).await), wrong);
    assert!(begun.elapsed() > first / 10, "{:?}, the first took {first:?}", begun.elapsed());
    for text in ["ann:", "ann:x", "ann", ":päss:word", "ann:päss:word\0", "ANN:päss:word"] {
        assert_eq!(said(&basic_of(text).to(&method).await), wrong, "{text}");
    }
    for line in ["Basic !!!!", "Basic YW5u OnB", "Basic YW5uOg", "Basic /w=="] {
        let sent = Sent::default().header(AUTHORIZATION, line);
        assert_eq!(said(&sent.to(&method).await), wrong, "{line}");
    }
    assert_eq!(
        said(&Sent::default().header(AUTHORIZATION, "Bearer x").to(&method).await),
        "missing"
    );
    assert_eq!(method.challenge(), "Basic realm=\"users\", charset=\"UTF-8\"");
}

#[tokio::test]
async fn passwords_do_not_hold_up_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), basic::line("ann", "x").unwrap()).unwrap();
    let method = method_in(dir.path(), "basic = { users = 'users' }").unwrap();
    let wrong: Vec<_> = (0..20).map(|index| basic_of(&format!("ann:{index}"))).collect();
    let mut seen = Vec::new();
    // A busy machine may hold up this thread for as long as they take, but not each time.
    for _ in 0..5 {
        let all = futures_util::future::join_all(wrong.iter().map(|sent| sent.to(&method)));
        let ticks = Cell::new(0);
        let clock = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks.set(ticks.get() + 1);
            }
        };
        let begun = Instant::now();
        let results = tokio::select! { results = all => results, () = clock => unreachable!() };
        assert!(results.iter().all(Result::is_err));
        // One after the other on this thread, they would leave room for a tick between two at most.
        if ticks.get() > 20 {
            return;
        }
        seen.push((ticks.get(), begun.elapsed()));
    }
    panic!("the thread had time for so many ticks: {seen:?}");
}

#[test]
fn files_are_refused_with_the_line_and_never_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let check = |config: &str, file: &str, expected: &str| {
        std::fs::write(dir.path().join("f"), file).unwrap();
        let message = method_in(dir.path(), config).unwrap_err().message;
        assert!(message.contains(expected), "{file:?}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    };
    let keys = "api_key = { file = 'f' }";
    check(keys, "", "no line `name:sha256`");
    check(keys, "# only this\n", "no line `name:sha256`");
    check(keys, "a:hunter2", "line 1: a key is given by its SHA-256");
    check(keys, "\nhunter2", "line 2 is not `name:sha256`");
    check(keys, "a:hunter2", "`tidewire token key` makes one");
    let hash = "0".repeat(64);
    check(keys, &format!("a:{hash}\nb:{hash}"), "line 2: this key is there already");
    check(keys, &format!("a:{hash} hunter2"), "line 1: what is behind the first blank");
    check(keys, &format!("a:{hash} {{\"a\":1,\"a\":2}}"), "must be a JSON object");
    check(keys, "a\0:b", "line 1 is not");
    let users = "basic = { users = 'f' }";
    check(users, "ann:hunter2", "not hashed with argon2id; `tidewire token password`");
    check(users, "ann:$2y$10$hunter2hunter2", "not hashed with argon2id");
    check(users, "ann:{SHA}hunter2", "not hashed with argon2id");
    check(users, "ann:$argon2i$v=19$m=16,t=2,p=1$aHVudGVy$hunter2", "not hashed with argon2id");
    check(users, "ann:$argon2id$hunter2", "hash is damaged");
    check(
        users,
        "ann:$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "256 MiB",
    );
    let line = basic::line("ann", "x").unwrap();
    check(users, &format!("{line}\n{line}"), "line 2: this user is there already");
    assert!(
        method_in(dir.path(), "basic = { users = 'none' }").unwrap_err().message.contains("read")
    );
    let short = method_in(dir.path(), "api_key = { key = 'hunter2' }").unwrap_err();
    assert!(short.message.contains("the key has 7 bytes") && !short.message.contains("hunter2"));
}

#[tokio::test]
async fn a_certificate_says_who_its_owner_is() {
    let mut params =
        CertificateParams::new(["a.example".to_owned(), "b.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "ann");
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    params.subject_alt_names.push(SanType::URI(text("spiffe://a.example/ann")));
    params.subject_alt_names.push(SanType::Rfc822Name(text("ann@a.example")));
    let pair = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&pair).unwrap();
    let ask = |der: Option<&[u8]>, subject: &str, now: u64| {
        let config = format!("client_cert = {{ subject = '{subject}' }}");
        let method = method_in(Path::new(""), &config).unwrap();
        let der = der.map(<[u8]>::to_vec);
        async move {
            let headers = HeaderMap::new();
            let presented = Presented {
                headers: &headers,
                query: None,
                subprotocols: &[],
                certificate: der.as_deref(),
            };
            method.authenticate(&presented, now).await
        }
    };
    let der: &[u8] = certificate.der();
    for (subject, expected) in [
        ("cn", "ann"),
        ("san:dns", "a.example"),
        ("san:uri", "spiffe://a.example/ann"),
        ("san:email", "ann@a.example"),
    ] {
        assert_eq!(said(&ask(Some(der), subject, NOW).await), expected);
    }
    let accepted = ask(Some(der), "cn", NOW).await.unwrap();
    assert_eq!(accepted.found, Found::Certificate);
    assert_eq!(accepted.identity.claim("dns"), Some(&json!(["a.example", "b.example"])));
    let end = accepted.identity.expires().unwrap();
    assert!(ask(Some(der), "cn", end).await.is_ok());
    assert_eq!(said(&ask(Some(der), "cn", end + 1).await), "the client certificate has expired");
    assert_eq!(said(&ask(None, "cn", NOW).await), "missing");
    assert!(ask(Some(&der[..der.len() / 2]), "cn", NOW).await.is_err());
    // Two common names: which is it?
    let mut two = CertificateParams::new([]).unwrap();
    two.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "root");
    two.distinguished_name.push(DnType::CommonName, "ann");
    let two = two.self_signed(&pair).unwrap();
    assert!(ask(Some(two.der()), "cn", NOW).await.is_err());
    let mut hidden = CertificateParams::new([]).unwrap();
    hidden.distinguished_name = rcgen::DistinguishedName::new();
    hidden.distinguished_name.push(DnType::CommonName, "ann\0.evil.example");
    let hidden = hidden.self_signed(&pair).unwrap();
    assert!(ask(Some(hidden.der()), "cn", NOW).await.is_err());
}
