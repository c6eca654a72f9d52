//! Key sets that are fetched from a server that behaves, and from one that does not.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tidewire_auth::config::AuthConfig;
use tidewire_auth::jwt::Jwt;
use tidewire_auth::jwt::fault::TokenFault;
use tidewire_auth::method::{Denied, Method};

const NOW: u64 = 1_700_000_000;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does with the next requests.
#[derive(Clone)]
enum Does {
    Answers { head: String, body: Vec<u8> },
    Hangs,
}

/// An issuer with its key set at `/keys`, on a thread.
struct Issuer {
    address: SocketAddr,
    does: Arc<Mutex<Does>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let does = Arc::new(Mutex::new(Does::Hangs));
        let asked = Arc::new(AtomicUsize::new(0));
        let (its, counted, tls) = (Arc::clone(&does), Arc::clone(&asked), tls.map(Arc::new));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (does, counted, tls) = (Arc::clone(&its), Arc::clone(&counted), tls.clone());
                std::thread::spawn(move || serve(stream, tls, &does, &counted));
            }
        });
        Self { address, does, asked }
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn has(&self, keys: &[&Signer]) {
        let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
        self.now(answers("200 OK", "Content-Type: application/json", &json!({ "keys": keys })));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answers(status: &str, header: &str, body: &impl ToString) -> Does {
    let body = body.to_string().into_bytes();
    let head = format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {}\r\n\r\n", body.len());
    Does::Answers { head, body }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    does: &Mutex<Does>,
    asked: &AtomicUsize,
) {
    match tls {
        None => answer(stream, does, asked),
        Some(config) => {
            let connection = ServerConnection::new(config).unwrap();
            answer(StreamOwned::new(connection, stream), does, asked);
        }
    }
}

fn answer(stream: impl std::io::Read + Write, does: &Mutex<Does>, asked: &AtomicUsize) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    if !line.ends_with("\r\n") {
        return;
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let does = does.lock().unwrap().clone();
    match does {
        Does::Hangs => std::thread::sleep(Duration::from_secs(30)),
        Does::Answers { head, body } => {
            let _ = stream.get_mut().write_all(head.as_bytes());
            let _ = stream.get_mut().write_all(&body);
            let _ = stream.get_mut().flush();
        }
    }
}

struct Signer {
    pair: KeyPair,
    id: String,
    jwk: Value,
}

impl Signer {
    fn new(id: &str) -> Self {
        let pair = KeyPair::generate().unwrap();
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y, "use": "sig" });
        Self { pair, id: id.to_owned(), jwk }
    }

    fn token(&self) -> String {
        self.token_with(Some(&self.id))
    }

    fn token_with(&self, kid: Option<&str>) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        let claims = json!({ "sub": "ann", "exp": NOW + 60 });
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

/// The method that takes the tokens of the issuer, kept current as a node does.
struct Kept {
    method: Arc<Method>,
    task: tokio::task::JoinHandle<()>,
}

impl Kept {
    fn start(url: &str, options: &str) -> Self {
        let text = format!("name = 'users'\n[jwt]\njwks = '{url}'\n{options}");
        let config: AuthConfig = toml::from_str(&text).unwrap();
        let method = Arc::new(Method::new(&config, Path::new("")).unwrap().unwrap());
        let task = method.keep(&tokio::runtime::Handle::current()).unwrap();
        Self { method, task }
    }

    fn of(issuer: &Issuer, options: &str) -> Self {
        Self::start(&format!("http://{}/keys?secret=1", issuer.address), options)
    }

    fn jwt(&self) -> &Jwt {
        match &*self.method {
            Method::Jwt(jwt) => jwt,
            other => panic!("{other:?}"),
        }
    }

    async fn verdict(&self, token: &str) -> String {
        match self.jwt().identify(token, NOW).await {
            Ok(identity) => identity.subject().unwrap().to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    /// Waits until the keys say this of a token.
    async fn until(&self, token: &str, expected: &str) {
        let begun = Instant::now();
        loop {
            let said = self.verdict(token).await;
            if said.contains(expected) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{expected:?}: {said:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn fetches(&self) -> (u64, u64) {
        let report = self.method.report().unwrap().fetches.unwrap();
        (report.ok, report.failed)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_key_is_found_by_its_id_and_only_so() {
    let (issuer, one, two) = (Issuer::start(None), Signer::new("1"), Signer::new("2"));
    issuer.has(&[&one, &two]);
    let kept = Kept::of(&issuer, "");
    // The first waits for the first fetch.
    assert_eq!(kept.verdict(&one.token()).await, "ann");
    assert_eq!(kept.verdict(&two.token()).await, "ann");
    assert_eq!(kept.verdict(&one.token_with(None)).await, "ann");
    assert!(kept.verdict(&one.token_with(Some("2"))).await.contains("signature is wrong"));
    for kid in ["3", "", "1 ", "../1", "' OR 1=1 --", "http://127.0.0.1/"] {
        assert!(kept.verdict(&one.token_with(Some(kid))).await.contains("and this `kid`"));
    }
    assert_eq!((issuer.asked(), kept.fetches()), (1, (1, 0)));
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_is_dropped() {
    let (issuer, old, new) = (Issuer::start(None), Signer::new("old"), Signer::new("new"));
    issuer.has(&[&old]);
    let kept = Kept::of(&issuer, "min_refresh = '200ms'");
    assert_eq!(kept.verdict(&old.token()).await, "ann");
    issuer.has(&[&new]);
    tokio::time::sleep(Duration::from_millis(210)).await;
    // Many at once cause one fetch, and all wait for it.
    let token = new.token();
    let all = futures_util::future::join_all((0..50).map(|_| kept.verdict(&token))).await;
    assert!(all.iter().all(|said| said == "ann"), "{all:?}");
    assert_eq!(issuer.asked(), 2);
    assert!(kept.verdict(&old.token()).await.contains("and this `kid`"));
}

#[tokio::test]
async fn made_up_ids_cause_few_fetches() {
    let (issuer, one) = (Issuer::start(None), Signer::new("1"));
    issuer.has(&[&one]);
    let kept = Kept::of(&issuer, "min_refresh = '1h'");
    assert_eq!(kept.verdict(&one.token()).await, "ann");
    let begun = Instant::now();
    for index in 0..200 {
        kept.verdict(&one.token_with(Some(&index.to_string()))).await;
    }
    assert_eq!(issuer.asked(), 1);
    // A busy machine takes its time; 200 waits would be longer by far.
    assert!(begun.elapsed() < PATIENCE, "nobody waits for what will not come");
}

#[tokio::test]
async fn keys_outlive_their_issuer_for_a_while() {
    let (issuer, one) = (Issuer::start(None), Signer::new("1"));
    issuer.has(&[&one]);
    let kept = Kept::of(&issuer, "refresh = '50ms'\nmin_refresh = '20ms'\nstale = '6s'");
    assert_eq!(kept.verdict(&one.token()).await, "ann");
    issuer.now(answers("500 Internal Server Error", "X: 1", &""));
    let begun = Instant::now();
    while kept.fetches().1 < 2 {
        assert_eq!(kept.verdict(&one.token()).await, "ann");
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begun.elapsed() < PATIENCE);
    }
    kept.until(&one.token(), "no key is loaded").await;
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    issuer.has(&[&one]);
    kept.until(&one.token(), "ann").await;
}

#[tokio::test]
async fn an_issuer_that_gives_no_keys_lets_nobody_in() {
    let one = Signer::new("1");
    let many: Vec<&Value> = std::iter::repeat_n(&one.jwk, 101).collect();
    let mut weak = one.jwk.clone();
    weak["use"] = "enc".into();
    let page = "<!doctype html><title>Sign in</title>";
    let cases = [
        answers("404 Not Found", "X: 1", &json!({ "keys": [one.jwk] })),
        answers("302 Found", "Location: /other", &json!({ "keys": [one.jwk] })),
        answers("200 OK", "Content-Type: text/html", &page),
        answers("200 OK", "X: 1", &""),
        answers("200 OK", "X: 1", &json!([one.jwk])),
        answers("200 OK", "X: 1", &json!({ "keys": one.jwk })),
        answers("200 OK", "X: 1", &json!({ "keys": [] })),
        answers("200 OK", "X: 1", &json!({ "keys": [weak] })),
        answers("200 OK", "X: 1", &json!({ "keys": many })),
        answers("200 OK", "X: 1", &json!({ "keys": [one.jwk], "pad": "x".repeat(300_000) })),
        answers("200 OK", "X: 1", &r#"{"keys":[],"keys":[1]}"#),
        Does::Answers {
            head: "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n".into(),
            body: b"{".into(),
        },
        Does::Answers { head: "nonsense\r\n\r\n".into(), body: Vec::new() },
        Does::Hangs,
    ];
    let one = &one;
    let all = cases.into_iter().map(|does| async move {
        let issuer = Issuer::start(None);
        issuer.now(does);
        let kept = Kept::of(&issuer, "timeout = '300ms'\nmin_refresh = '1h'");
        let said = kept.jwt().identify(&one.token(), NOW).await;
        assert_eq!(said, Err(TokenFault::NoKeys));
        let denied = kept.method.authenticate_token(&one.token(), NOW);
        assert!(matches!(denied, Err(Denied::Unavailable(_))), "{denied:?}");
        // It is asked again soon, as nobody gets in meanwhile.
        issuer.has(&[one]);
        kept.until(&one.token(), "ann").await;
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn keys_for_other_uses_are_passed_over() {
    let (issuer, one) = (Issuer::start(None), Signer::new("1"));
    let with = |name: &str, value: Value| {
        let mut jwk = one.jwk.clone();
        jwk[name] = value;
        jwk
    };
    let passed = [
        with("use", "enc".into()),
        with("key_ops", json!(["encrypt"])),
        with("alg", "RS256".into()),
        with("alg", "none".into()),
        with("crv", "P-521".into()),
        with("kty", "XX".into()),
        with("x", "AAAA".into()),
        with("y", one.jwk["x"].clone()),
        with("kid", 1.into()),
        json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]), "kid": "s" }),
        // 1024 bits.
        json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc1; 128]), "e": "AQAB", "kid": "r" }),
        json!("text"),
    ];
    let mut keys = passed.to_vec();
    keys.push(with("kid", "good".into()));
    issuer.now(answers("200 OK", "X: 1", &json!({ "keys": keys })));
    let kept = Kept::of(&issuer, "");
    assert_eq!(kept.verdict(&one.token_with(Some("good"))).await, "ann");
    assert_eq!(kept.method.report().unwrap().keys, 1);
    let secret = EncodingKey::from_secret(&[7; 32]);
    let claims = json!({ "sub": "ann", "exp": NOW + 60 });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
    assert!(kept.verdict(&token).await.contains("no key for a token with `alg` HS256"));
}

#[tokio::test]
async fn the_answer_says_when_to_ask_again_within_bounds() {
    let (issuer, one) = (Issuer::start(None), Signer::new("1"));
    let keys = json!({ "keys": [one.jwk] });
    issuer.now(answers("200 OK", "Cache-Control: public, max-age=0", &keys));
    // Before the first is asked for: whoever measures may be late.
    let begun = Instant::now();
    let kept = Kept::of(&issuer, "min_refresh = '50ms'");
    kept.until(&one.token(), "ann").await;
    while issuer.asked() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn over_https_the_issuer_is_one_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let server = |name: &str| {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&pair, &ca).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    };
    let one = Signer::new("1");
    let ca_option = format!("ca = '{}'\nmin_refresh = '1h'", ca_file.display());
    for (name, options, expected) in [
        ("127.0.0.1", &*ca_option, "ann"),
        ("other.example", &*ca_option, "no key is loaded"),
        ("127.0.0.1", "min_refresh = '1h'", "no key is loaded"),
    ] {
        let issuer = Issuer::start(Some(server(name)));
        issuer.has(&[&one]);
        let kept = Kept::start(&format!("https://{}/keys", issuer.address), options);
        assert!(kept.verdict(&one.token()).await.contains(expected), "{name} {options}");
    }
}
