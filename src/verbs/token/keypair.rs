//! `tidewire token keypair`: a private key for the issuer, its public half for the edge.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use super::args::{KeypairArgs, PairAlgorithm};
use super::say;

pub fn run(args: &KeypairArgs) -> anyhow::Result<()> {
    let pair = KeyPair::generate_for(kind(args.alg)).context("cannot make a key pair")?;
    let (private, public) = (pair.serialize_pem(), pair.public_key_pem());
    let set = serde_json::to_string_pretty(&key_set(&pair, args)?)? + "\n";
    let Some(name) = &args.out else {
        return say((private + &public + &set).trim_end());
    };
    let with = |end: &str| {
        let mut path = name.clone().into_os_string();
        path.push(end);
        path
    };
    write(with(".private.pem").as_ref(), &private, 0o600)?;
    write(with(".public.pem").as_ref(), &public, 0o644)?;
    write(with(".jwks.json").as_ref(), &set, 0o644)
}

fn kind(algorithm: PairAlgorithm) -> &'static SignatureAlgorithm {
    match algorithm {
        PairAlgorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        PairAlgorithm::Es384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        PairAlgorithm::EdDsa => &rcgen::PKCS_ED25519,
        PairAlgorithm::Rs256 | PairAlgorithm::Ps256 => &rcgen::PKCS_RSA_SHA256,
    }
}

/// The public key as a set of one (RFC 7517).
fn key_set(pair: &KeyPair, args: &KeypairArgs) -> anyhow::Result<Value> {
    let mut key = members(pair, args.alg)?;
    // RFC 7638: the members in the order of their names, without blanks.
    let mut sorted: Vec<_> = key.as_object().into_iter().flatten().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    let sorted: Vec<String> =
        sorted.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let thumbprint = Sha256::digest(format!("{{{}}}", sorted.join(",")));
    let id = args.kid.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(thumbprint));
    key["kid"] = id.into();
    key["use"] = "sig".into();
    key["alg"] = match args.alg {
        PairAlgorithm::Es256 => "ES256",
        PairAlgorithm::Es384 => "ES384",
        PairAlgorithm::EdDsa => "EdDSA",
        PairAlgorithm::Rs256 => "RS256",
        PairAlgorithm::Ps256 => "PS256",
    }
    .into();
    Ok(json!({ "keys": [key] }))
}

/// The members that make the key, which are those of its thumbprint.
fn members(pair: &KeyPair, algorithm: PairAlgorithm) -> anyhow::Result<Value> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = |curve: &str, bytes: usize| {
        let raw = pair.der_bytes();
        let raw = raw.get(1..).filter(|raw| raw.len() == 2 * bytes);
        let (x, y) = raw.context("the point is not uncompressed")?.split_at(bytes);
        Ok(json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) }))
    };
    match algorithm {
        PairAlgorithm::Es256 => point("P-256", 32),
        PairAlgorithm::Es384 => point("P-384", 48),
        PairAlgorithm::EdDsa => {
            Ok(json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.der_bytes()) }))
        }
        PairAlgorithm::Rs256 | PairAlgorithm::Ps256 => {
            let info = pair.subject_public_key_info();
            let (_, info) = SubjectPublicKeyInfo::from_der(&info)?;
            let PublicKey::RSA(key) = info.parsed()? else {
                anyhow::bail!("the key is not RSA");
            };
            let trim = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().skip_while(|&byte| byte == 0).collect()
            };
            let (n, e) = (trim(key.modulus), trim(key.exponent));
            Ok(json!({ "kty": "RSA", "n": text(&n), "e": text(&e) }))
        }
    }
}

/// Writes a file that is not there yet: a key that is overwritten is lost.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let shown = || format!("cannot write {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.with_context(shown)?.write_all(text.as_bytes()).with_context(shown)
}
