//! Tokens that attack whoever checks them, as data: each is refused, and for its own reason.
//!
//! Tokens are made by another library, or by hand where no library would.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Alg, EncodingKey, Header};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use serde_json::{Value, json};
use tidewire_auth::config::AuthConfig;
use tidewire_auth::jwt::Jwt;
use tidewire_auth::jwt::fault::TokenFault;
use tidewire_auth::method::Method;

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "a secret of thirty-two bytes, ok";

fn jwt(options: &str) -> Jwt {
    jwt_in(Path::new(""), options)
}

fn jwt_in(dir: &Path, options: &str) -> Jwt {
    let config: AuthConfig =
        toml::from_str(&format!("name = 'users'\n[jwt]\n{options}")).expect(options);
    match Method::new(&config, dir) {
        Ok(Some(Method::Jwt(jwt))) => *jwt,
        other => panic!("{options}: {other:?}"),
    }
}

fn by_secret() -> Jwt {
    jwt(&format!("secret = '{SECRET}'"))
}

fn good() -> Value {
    json!({ "sub": "ann", "exp": NOW + 60 })
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of these texts, signed with the secret.
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", encode(signature))
}

fn with_header(header: &str) -> String {
    signed(header, &good().to_string())
}

fn with_claims(claims: &str) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

fn verdict(jwt: &Jwt, token: &str, now: u64) -> Result<String, TokenFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let identity = runtime.block_on(jwt.identify(token, now))?;
    Ok(identity.subject().unwrap_or("nobody").to_owned())
}

/// `expected` is `ann`, or a piece of the reason.
#[track_caller]
fn check(jwt: &Jwt, token: &str, expected: &str) {
    check_at(jwt, token, NOW, expected);
}

#[track_caller]
fn check_at(jwt: &Jwt, token: &str, now: u64, expected: &str) {
    let said = verdict(jwt, token, now).unwrap_or_else(|fault| fault.to_string());
    let is_so = if expected == "ann" { said == "ann" } else { said.contains(expected) };
    assert!(is_so, "expected {expected:?}, said {said:?} of {token:.400}");
}

#[test]
fn the_form_of_a_token_is_taken_at_its_word() {
    let jwt = by_secret();
    let token = with_claims(&good().to_string());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    check(&jwt, &token, "ann");
    check(&jwt, "", "three parts");
    check(&jwt, "..", "header of the token is not a JSON object");
    check(&jwt, "a.b.c", "header of the token is not base64url");
    check(&jwt, message, "three parts");
    check(&jwt, &format!("{token}."), "has 4");
    check(&jwt, &format!("{token}.a.b"), "JWE");
    check(&jwt, &format!("{token}.a.b.c"), "has 6");
    check(&jwt, &format!("{message}."), "no signature");
    check(&jwt, &format!("{message}.AA"), "signature is wrong");
    check(&jwt, &format!("{header}..{signature}"), "signature is wrong");
    check(&jwt, &format!(".{payload}.{signature}"), "header of the token is not");
    // Each value has one form: no padding, no blanks, no other alphabet, no bits left over.
    for wrong in [
        format!("{token}="),
        format!("{token}=="),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}\0"),
        format!("{token}é"),
        format!("{message}.{}", with_bits_left_over(signature)),
    ] {
        check(&jwt, &wrong, "signature of the token is not base64url");
    }
    check(&jwt, &format!("{token}A"), "signature is wrong");
    check(&jwt, &format!(" {token}"), "header of the token is not base64url");
    check(&jwt, &format!("{header}=.{payload}.{signature}"), "header of the token is not base64");
    check(&jwt, &format!("{header}.{payload}=.{signature}"), "payload of the token is not base64");
    check(&jwt, &token.replace(['-', '_'], "+"), "base64url");
}

/// The same bytes for whoever is lenient: 32 bytes leave two bits of the last character unused.
fn with_bits_left_over(signature: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = signature.split_at(signature.len() - 1);
    let value = ALPHABET.iter().position(|&one| one == last.as_bytes()[0]).unwrap();
    assert_eq!(value % 4, 0, "the encoder leaves them empty");
    format!("{rest}{}", ALPHABET[value + 1] as char)
}

#[test]
fn a_token_without_a_signature_is_none_whatever_it_calls_that() {
    let jwt = by_secret();
    for name in ["none", "None", "NONE", "nOnE", " none", "none ", "none\\u0000"] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let reason = if name.contains('\\') { "alg` is missing" } else { "`none`" };
        check(&jwt, &with_header(&header), reason);
        let unsigned = format!("{}.{}.", encode(&header), encode(good().to_string()));
        check(&jwt, &unsigned, reason);
    }
    for header in [
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":""}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"HS256":1}}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS256 "}"#,
        r#"{"alg":"HS1"}"#,
        r#"{"alg":"ES256K"}"#,
        r#"{"ALG":"HS256"}"#,
    ] {
        check(&jwt, &with_header(header), "alg` is missing, or is none");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let algorithms: [(&SignatureAlgorithm, &str); 4] = [
        (&PKCS_RSA_SHA256, "RSA"),
        (&PKCS_ECDSA_P256_SHA256, "P-256"),
        (&PKCS_ECDSA_P384_SHA384, "P-384"),
        (&PKCS_ED25519, "Ed25519"),
    ];
    for (algorithm, name) in algorithms {
        let pair = KeyPair::generate_for(algorithm).expect(name);
        let pem = pair.public_key_pem();
        std::fs::write(dir.path().join("public.pem"), &pem).unwrap();
        let jwt = jwt_in(dir.path(), "key = 'public.pem'");
        // Every form of the public key that an attacker has.
        let der = pair.subject_public_key_info();
        let raw: Vec<u8> = pair.public_key_raw().to_vec();
        let forms =
            [pem.as_bytes().to_vec(), pem.trim_end().as_bytes().to_vec(), der, raw, Vec::new()];
        for secret in forms {
            for alg in [Alg::HS256, Alg::HS384, Alg::HS512] {
                let key = EncodingKey::from_secret(&secret);
                let token = jsonwebtoken::encode(&Header::new(alg), &good(), &key).unwrap();
                check(&jwt, &token, "no key for a token with `alg` HS");
            }
        }
    }
}

#[test]
fn a_key_is_only_for_its_own_algorithms() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = [
        (Alg::RS256, KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()),
        (Alg::ES256, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()),
        (Alg::ES384, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()),
        (Alg::EdDSA, KeyPair::generate_for(&PKCS_ED25519).unwrap()),
    ];
    let token = |alg: Alg, pair: &KeyPair| {
        let pem = pair.serialize_pem();
        let key = match alg {
            Alg::ES256 | Alg::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Alg::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        jsonwebtoken::encode(&Header::new(alg), &good(), &key.unwrap()).unwrap()
    };
    let jwts: Vec<Jwt> = pairs
        .iter()
        .map(|(_, pair)| {
            std::fs::write(dir.path().join("public.pem"), pair.public_key_pem()).unwrap();
            jwt_in(dir.path(), "key = 'public.pem'")
        })
        .collect();
    for (signer, (alg, pair)) in pairs.iter().enumerate() {
        for (reader, jwt) in jwts.iter().enumerate() {
            let expected = if signer == reader { "ann" } else { "no key for a token with `alg`" };
            check(jwt, &token(*alg, pair), expected);
        }
    }
    // RSA keys are for six, unless the configuration says for which.
    let rsa = &pairs[0].1;
    std::fs::write(dir.path().join("public.pem"), rsa.public_key_pem()).unwrap();
    let only = jwt_in(dir.path(), "key = 'public.pem'\nalgorithms = ['PS256']");
    for alg in [Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512] {
        check(&jwts[0], &token(alg, rsa), "ann");
        let expected = if alg == Alg::PS256 { "ann" } else { "no key for a token with `alg`" };
        check(&only, &token(alg, rsa), expected);
    }
    // One key's signature under another algorithm's name.
    let rs256 = token(Alg::RS256, rsa);
    let (_, rest) = rs256.split_once('.').unwrap();
    check(&jwts[0], &format!("{}.{rest}", encode(r#"{"alg":"PS256"}"#)), "signature is wrong");
    // Another key of the same kind.
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    check(&jwts[1], &token(Alg::ES256, &other), "signature is wrong");
}

#[test]
fn secrets_are_as_long_as_their_algorithm_wants() {
    let secret = "s".repeat(64);
    let all = jwt(&format!("secret = '{secret}'"));
    let only = jwt(&format!("secret = '{secret}'\nalgorithms = ['HS512']"));
    for alg in [Alg::HS256, Alg::HS384, Alg::HS512] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(alg), &good(), &key).unwrap();
        check(&all, &token, "ann");
        check(&only, &token, if alg == Alg::HS512 { "ann" } else { "no key for a token" });
    }
    // 32 bytes are for HS256 only.
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Alg::HS384), &good(), &key).unwrap();
    check(&by_secret(), &token, "no key for a token with `alg` HS384");
}

#[test]
fn the_header_of_a_token_names_no_key_but_those_that_are_known() {
    let jwt = by_secret();
    // A key that belongs to the configuration has no `kid`: it is the only one.
    for kid in ["1", "../../../dev/null", "' OR '1'='1", "http://evil.example/key", "", "\\u0000"] {
        check(&jwt, &with_header(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)), "ann");
    }
    for kid in ["1", "null", "[]", "{}", "true"] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        check(&jwt, &with_header(&header), "`kid` is not a string");
    }
    let evil = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of the attacker's own!!");
    for more in [
        r#""jku":"http://127.0.0.1:1/keys""#,
        r#""jwk":{"kty":"oct","k":"YSBzZWNyZXQgb2YgdGhlIGF0dGFja2VyJ3Mgb3duISE"}"#,
        r#""x5u":"http://127.0.0.1:1/cert""#,
        r#""x5c":["AAAA"]"#,
        r#""kid":"../../../dev/null""#,
    ] {
        let header = format!(r#"{{"alg":"HS256",{more}}}"#);
        let message = format!("{}.{}", encode(header), encode(good().to_string()));
        let signature = hmac::sign(&evil, message.as_bytes());
        check(&jwt, &format!("{message}.{}", encode(signature)), "signature is wrong");
    }
    for (more, name) in [
        (r#""crit":["exp"]"#, "`crit`"),
        (r#""crit":[]"#, "`crit`"),
        (r#""b64":false"#, "`b64`"),
        (r#""enc":"A256GCM""#, "`enc`"),
        (r#""zip":"DEF""#, "`zip`"),
    ] {
        check(&jwt, &with_header(&format!(r#"{{"alg":"HS256",{more}}}"#)), name);
    }
}

#[test]
fn a_member_that_is_there_twice_says_nothing() {
    let jwt = by_secret();
    for header in [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
    ] {
        check(&jwt, &with_header(header), "header of the token is not a JSON object");
    }
    for claims in [
        r#"{"sub":"ann","sub":"root","exp":1700000060}"#,
        r#"{"sub":"ann","\u0073ub":"root","exp":1700000060}"#,
        r#"{"sub":"ann","exp":1,"exp":1700000060}"#,
        r#"{"sub":"ann","exp":1700000060,"a":{"role":1,"role":2}}"#,
    ] {
        check(&jwt, &with_claims(claims), "payload of the token is not a JSON object");
    }
}

#[test]
fn times_are_numbers_of_seconds() {
    let jwt = by_secret();
    let with_exp = |exp: &str| with_claims(&format!(r#"{{"sub":"ann","exp":{exp}}}"#));
    for (exp, expected) in [
        ("1700000060", "ann"),
        ("1700000060.0", "ann"),
        ("1.70000006e9", "ann"),
        ("253402300799", "ann"),
        ("253402300800", "not milliseconds"),
        ("1700000060000", "not milliseconds"),
        ("18446744073709551615", "not milliseconds"),
        ("18446744073709551616", "not milliseconds"),
        ("1e300", "not milliseconds"),
        ("1e999", "payload of the token is not a JSON object"),
        ("1e999999999", "payload of the token is not a JSON object"),
        ("-1e999999999", "payload of the token is not a JSON object"),
        ("1e-999999999", "expired at 0"),
        ("-1", "not before it"),
        ("-0.5", "not before it"),
        ("-1700000060", "not before it"),
        ("0", "expired at 0"),
        ("\"1700000060\"", "not of another kind"),
        ("true", "not of another kind"),
        ("null", "not of another kind"),
        ("[1700000060]", "not of another kind"),
        ("{}", "not of another kind"),
        ("NaN", "payload of the token is not a JSON object"),
        ("Infinity", "payload of the token is not a JSON object"),
        ("01700000060", "payload of the token is not a JSON object"),
        ("0x655f0000", "payload of the token is not a JSON object"),
    ] {
        check(&jwt, &with_exp(exp), expected);
        let later = format!(r#"{{"sub":"ann","exp":1700000060,"nbf":{exp},"iat":{exp}}}"#);
        let verdict = verdict(&jwt, &with_claims(&later), NOW);
        let is_time = matches!(expected, "ann" | "expired at 0");
        let far = exp == "253402300799";
        let said_well = match verdict {
            Ok(_) => is_time && !far,
            Err(TokenFault::NotYet { .. }) => {
                far || exp.starts_with("17") || exp.starts_with("1.7")
            }
            Err(_) => !is_time,
        };
        assert!(
            said_well,
            "nbf and iat {exp}: {:?}",
            self::verdict(&jwt, &with_claims(&later), NOW)
        );
    }
    check(&jwt, &with_claims(r#"{"sub":"ann"}"#), "has no `exp`");
    let endless = self::jwt(&format!("secret = '{SECRET}'\nallow_no_expiry = true"));
    check(&endless, &with_claims(r#"{"sub":"ann"}"#), "ann");
    check(&endless, &with_exp("1"), "expired");
    check(&endless, &with_exp("null"), "not of another kind");
}

#[test]
fn the_leeway_is_as_long_as_it_says_to_the_second() {
    let jwt = by_secret();
    let exp = with_claims(&json!({ "sub": "ann", "exp": NOW }).to_string());
    check_at(&jwt, &exp, NOW - 1, "ann");
    check_at(&jwt, &exp, NOW + 29, "ann");
    check_at(&jwt, &exp, NOW + 30, "expired at 1700000000, 30 s ago");
    for (claim, reason) in [("nbf", "valid from 1700000000 on, in 31 s"), ("iat", "31 s in the")] {
        let claims = json!({ "sub": "ann", claim: NOW, "exp": NOW + 60 });
        let token = with_claims(&claims.to_string());
        check_at(&jwt, &token, NOW, "ann");
        check_at(&jwt, &token, NOW - 30, "ann");
        check_at(&jwt, &token, NOW - 31, reason);
    }
    // Parts of a second count against the token.
    let part = with_claims(r#"{"sub":"ann","exp":1700000000.9}"#);
    check_at(&jwt, &part, NOW + 29, "ann");
    check_at(&jwt, &part, NOW + 30, "expired");
    let part = with_claims(r#"{"sub":"ann","nbf":1699999999.1,"exp":1700000060}"#);
    check_at(&jwt, &part, NOW - 30, "ann");
    check_at(&jwt, &part, NOW - 31, "valid from");
    let exact = self::jwt(&format!("secret = '{SECRET}'\nleeway = '0s'"));
    check_at(&exact, &exp, NOW - 1, "ann");
    check_at(&exact, &exp, NOW, "expired");
}

#[test]
fn a_token_is_for_whom_it_names() {
    let jwt =
        jwt(&format!("secret = '{SECRET}'\naudience = ['chat', 'b']\nissuer = ['me', 'you']"));
    let plain = by_secret();
    let any = self::jwt(&format!("secret = '{SECRET}'\naudience = ['*']"));
    let token = |more: Value| {
        let mut claims = good();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with_claims(&claims.to_string())
    };
    for (aud, is_ours) in [
        (json!("chat"), true),
        (json!(["chat"]), true),
        (json!(["x", "b"]), true),
        (json!("Chat"), false),
        (json!("chat "), false),
        (json!("chatroom"), false),
        (json!("*"), false),
        (json!([]), false),
        (json!(["x"]), false),
        (json!(["chat", 1]), false),
        (json!([["chat"]]), false),
        (json!({ "chat": 1 }), false),
        (json!(null), false),
        (json!(1), false),
    ] {
        let token = token(json!({ "iss": "me", "aud": aud }));
        check(&jwt, &token, if is_ours { "ann" } else { "audience (`aud`) is none" });
        check(&plain, &token, "no `audience` is configured");
        check(&any, &token, "ann");
    }
    check(&jwt, &token(json!({ "iss": "me" })), "audience (`aud`) is none");
    for (iss, is_right) in [
        (json!("me"), true),
        (json!("you"), true),
        (json!("Me"), false),
        (json!("me/"), false),
        (json!(["me"]), false),
        (json!(null), false),
        (json!(""), false),
    ] {
        let token = token(json!({ "iss": iss, "aud": "chat" }));
        check(&jwt, &token, if is_right { "ann" } else { "issuer (`iss`) is none" });
    }
    check(&jwt, &token(json!({ "aud": "chat" })), "issuer (`iss`) is none");
}

#[test]
fn what_goes_into_logs_and_headers_has_no_control_characters() {
    let jwt = by_secret();
    for wrong in
        ["", "a\0b", "a\nb", "a\r\nX-Role: admin", "\x1b[2J", "\x7f", "a\u{202e}b", "\u{2028}"]
    {
        for claim in ["sub", "jti"] {
            let mut claims = good();
            claims[claim] = wrong.into();
            check(&jwt, &with_claims(&claims.to_string()), &format!("`{claim}` must be a string"));
        }
    }
    for wrong in [json!(1), json!(null), json!(["ann"]), json!("a".repeat(1025))] {
        let mut claims = good();
        claims["sub"] = wrong;
        check(&jwt, &with_claims(&claims.to_string()), "`sub` must be a string");
    }
    let mut claims = good();
    claims["sub"] = "Zoë 🌊".into();
    assert_eq!(verdict(&jwt, &with_claims(&claims.to_string()), NOW), Ok("Zoë 🌊".into()));
}

#[test]
fn size_and_depth_are_bounded_before_anything_is_read() {
    let jwt = by_secret();
    let mut claims = good();
    claims["pad"] = "x".repeat(1 << 20).into();
    check(&jwt, &with_claims(&claims.to_string()), "more than the 8192 of `max_bytes`");
    check(&jwt, &".".repeat(1 << 20), "more than the 8192");
    let small = self::jwt(&format!("secret = '{SECRET}'\nmax_bytes = '100B'"));
    check(&small, &with_claims(&good().to_string()), "more than the 100");
    for depth in [17, 1000, 2500] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let claims = format!(r#"{{"sub":"ann","exp":1700000060,"a":{nested}}}"#);
        check(&jwt, &with_claims(&claims), "too deep");
    }
}

#[test]
fn types_and_claims_can_be_required() {
    let jwt = jwt(&format!("secret = '{SECRET}'\ntyp = 'at+jwt'\nrequire = ['team', 'jti']"));
    let claims = json!({ "sub": "ann", "exp": NOW + 60, "team": "a", "jti": "1" }).to_string();
    for (typ, is_right) in [
        (r#","typ":"at+jwt""#, true),
        (r#","typ":"AT+JWT""#, true),
        (r#","typ":"application/at+jwt""#, true),
        (r#","typ":"JWT""#, false),
        (r#","typ":"""#, false),
        ("", false),
    ] {
        let token = signed(&format!(r#"{{"alg":"HS256"{typ}}}"#), &claims);
        check(&jwt, &token, if is_right { "ann" } else { "`typ` is not `at+jwt`" });
    }
    let header = r#"{"alg":"HS256","typ":"at+jwt"}"#;
    let without = claims.replace(r#""team":"a""#, r#""team":null"#);
    check(&jwt, &signed(header, &without), "no claim `team`");
    check(&jwt, &signed(header, &good().to_string()), "no claim `team`");
    check(&jwt, &signed(r#"{"alg":"HS256","typ":1}"#, &claims), "header of the token");
}
