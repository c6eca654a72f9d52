//! `tidewire token make`: signs claims.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Map, Value};
use tidewire_auth::secret::Secret;

use super::args::MakeArgs;

/// The token that the arguments describe, made at `now`, in seconds since 1970.
pub fn token(args: &MakeArgs, now: u64) -> anyhow::Result<String> {
    let (key, algorithms) = signer(args)?;
    let algorithm = match &args.alg {
        None => algorithms[0],
        Some(name) => {
            let known = algorithms.iter().find(|one| format!("{one:?}") == *name);
            let names: Vec<_> = algorithms.iter().map(|one| format!("{one:?}")).collect();
            *known.with_context(|| {
                format!("`--alg {name}` is not for this key, which is for {}", names.join(", "))
            })?
        }
    };
    let mut header = Header::new(algorithm);
    header.kid.clone_from(&args.kid);
    if args.typ.is_some() {
        header.typ.clone_from(&args.typ);
    }
    Ok(encode(&header, &claims(args, now)?, &key)?)
}

fn claims(args: &MakeArgs, now: u64) -> anyhow::Result<Map<String, Value>> {
    let mut claims = Map::new();
    if let Some(issuer) = &args.iss {
        claims.insert("iss".into(), issuer.as_str().into());
    }
    if let Some(subject) = &args.sub {
        claims.insert("sub".into(), subject.as_str().into());
    }
    match args.aud.as_slice() {
        [] => {}
        [one] => drop(claims.insert("aud".into(), one.as_str().into())),
        several => drop(claims.insert("aud".into(), several.into())),
    }
    let id = args.jti.clone().unwrap_or_else(tidewire_auth::random::id);
    claims.insert("jti".into(), id.into());
    claims.insert("iat".into(), now.into());
    if let Some(begin) = args.nbf {
        claims.insert("nbf".into(), now.saturating_add(begin.0.as_secs()).into());
    }
    if !args.no_exp {
        claims.insert("exp".into(), now.saturating_add(args.exp.0.as_secs()).into());
    }
    for text in &args.claim {
        let (name, value) = claim(text)?;
        claims.insert(name, value);
    }
    Ok(claims)
}

/// `name=text`, or `name:=json`.
fn claim(text: &str) -> anyhow::Result<(String, Value)> {
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !matches!(*name, "" | ":"))
    else {
        bail!("`--claim {text}` is not NAME=TEXT or NAME:=JSON");
    };
    match name.strip_suffix(':') {
        None => Ok((name.to_owned(), value.into())),
        Some(name) => {
            let value = serde_json::from_str(value);
            let value = value.with_context(|| format!("`--claim {text}`: this is not JSON"))?;
            Ok((name.to_owned(), value))
        }
    }
}

/// The key to sign with, and the algorithms that it is for, the usual one first.
fn signer(args: &MakeArgs) -> anyhow::Result<(EncodingKey, Vec<Algorithm>)> {
    if let Some(path) = &args.key {
        return private_key(path);
    }
    let secret = match (&args.secret_env, &args.secret_file) {
        (Some(name), _) => {
            let value = std::env::var(name);
            let value = value.with_context(|| format!("environment variable `{name}`"))?;
            Secret::new(value.as_bytes())
        }
        (None, Some(path)) => Secret::of_file(&read(path)?),
        (None, None) => bail!("there is no key to sign with"),
    };
    let bytes = secret.expose();
    let fits = |least: usize| bytes.len() >= least;
    let all = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    let algorithms: Vec<_> =
        all.into_iter().filter(|(_, least)| fits(*least)).map(|(one, _)| one).collect();
    if algorithms.is_empty() {
        bail!("the secret has {} bytes; HS256 needs at least 32", bytes.len());
    }
    Ok((EncodingKey::from_secret(bytes), algorithms))
}

fn private_key(path: &Path) -> anyhow::Result<(EncodingKey, Vec<Algorithm>)> {
    let pem = read(path)?;
    let shown = path.display();
    let wrong = || {
        format!(
            "{shown} is not a private key in PEM (PKCS#8); \
             `openssl pkcs8 -topk8 -nodes` makes one of others"
        )
    };
    let text = std::str::from_utf8(&pem).ok().with_context(wrong)?;
    let pair = KeyPair::from_pem(text).ok().with_context(wrong)?;
    let (key, algorithms) = if pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
        (EncodingKey::from_ec_pem(&pem), vec![Algorithm::ES256])
    } else if pair.is_compatible(&PKCS_ECDSA_P384_SHA384) {
        (EncodingKey::from_ec_pem(&pem), vec![Algorithm::ES384])
    } else if pair.is_compatible(&PKCS_ED25519) {
        (EncodingKey::from_ed_pem(&pem), vec![Algorithm::EdDSA])
    } else {
        use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        (EncodingKey::from_rsa_pem(&pem), vec![RS256, RS384, RS512, PS256, PS384, PS512])
    };
    Ok((key.ok().with_context(wrong)?, algorithms))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_text_or_json() {
        let check = |text: &str, expected: Option<(&str, Value)>| {
            let found = claim(text).ok();
            assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)), "{text}");
        };
        check("role=admin", Some(("role", "admin".into())));
        check("a=b=c", Some(("a", "b=c".into())));
        check("a=", Some(("a", "".into())));
        check("level:=3", Some(("level", 3.into())));
        check("a:=[true]", Some(("a", serde_json::json!([true]))));
        check("https://a.example/b=c", Some(("https://a.example/b", "c".into())));
        for wrong in ["a", "=b", ":=1", "a:=x", ""] {
            check(wrong, None);
        }
    }
}
