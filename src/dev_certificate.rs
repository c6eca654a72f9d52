//! A certificate for `tidewire up --tls`, made on first use and kept for the user.
//!
//! An authority that is trusted is dangerous while its key exists, and for the names that it may
//! sign. So this one may sign names of this machine only, signs one certificate, and its key is
//! never written anywhere.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tidewire_edge::tls::date::{DAY, Date};
use x509_parser::parse_x509_certificate;

/// A certificate for development, and where it is.
#[derive(Debug)]
pub struct DevCertificate {
    dir: PathBuf,
    pub expires: Date,
}

impl DevCertificate {
    /// The user's one for names of this machine and `address`; made when there is none, or when it
    /// is about to end.
    pub fn ensure(address: IpAddr) -> anyhow::Result<Self> {
        Self::ensure_in(&state_dir()?, address)
    }

    fn ensure_in(state: &Path, address: IpAddr) -> anyhow::Result<Self> {
        // Loopback needs no other, however often `--listen` changes.
        let name = match address.is_loopback() || address.is_unspecified() {
            true => "development".to_owned(),
            false => format!("development-{address}").replace(':', "_"),
        };
        let dir = state.join(name);
        if let Some(found) = Self::find(&dir, Date::now()) {
            return Ok(found);
        }
        let cannot = || format!("cannot make a certificate for development in {}", dir.display());
        make(&dir, address).with_context(cannot)?;
        Self::find(&dir, Date::now())
            .ok_or_else(|| anyhow!("what was made is not right"))
            .with_context(cannot)
    }

    /// What a client has to trust.
    pub fn ca(&self) -> PathBuf {
        self.dir.join(CA)
    }

    pub fn cert(&self) -> PathBuf {
        self.dir.join(CERT)
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join(KEY)
    }

    /// `None` when it is not there whole, or not for much longer.
    fn find(dir: &Path, now: Date) -> Option<Self> {
        let pem = fs::read(dir.join(CERT)).ok()?;
        let der = CertificateDer::from_pem_slice(&pem).ok()?;
        let expires = parse_x509_certificate(&der).ok()?.1.validity().not_after.into();
        let found = Self { dir: dir.to_owned(), expires };
        let is_whole = found.ca().is_file() && found.key().is_file();
        (is_whole && expires.days_from(now) >= SPARE_DAYS).then_some(found)
    }
}

/// Fills a directory beside it and gives that its name, so that nobody sees half of it.
fn make(dir: &Path, address: IpAddr) -> anyhow::Result<()> {
    let (ca, cert, key) = sign(address)?;
    let state = dir.parent().context("it is in no directory")?;
    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let name = dir.file_name().context("it has no name")?.display();
    let pid = std::process::id();
    let beside = |what: &str| state.join(format!("{name}.{what}-{pid}"));
    let (new, old) = (beside("new"), beside("old"));
    let _ = fs::remove_dir_all(&new);
    DirBuilder::new().mode(0o700).create(&new)?;
    write(&new.join(CA), &ca, 0o644)?;
    write(&new.join(CERT), &cert, 0o644)?;
    write(&new.join(KEY), &key, 0o600)?;
    if dir.exists() {
        fs::rename(dir, &old)?;
    }
    let renamed = fs::rename(&new, dir);
    let _ = fs::remove_dir_all(&old);
    // Somebody else may have been as quick: theirs is as good.
    if renamed.is_err() && DevCertificate::find(dir, Date::now()).is_some() {
        let _ = fs::remove_dir_all(&new);
        return Ok(());
    }
    Ok(renamed?)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// The authority's certificate, the one that it has signed, and that one's key.
fn sign(address: IpAddr) -> Result<(String, String, String), rcgen::Error> {
    let now = SystemTime::now();
    // An hour of clocks that differ, and in all less than what browsers allow.
    let begins = now - Duration::from_secs(3600);
    let ends = now + Duration::from_secs(364 * DAY as u64);
    let mut ca = CertificateParams::default();
    (ca.not_before, ca.not_after) = (begins.into(), ends.into());
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Tidewire development");
    ca.name_constraints = Some(NameConstraints {
        permitted_subtrees: names_of_this_machine(address),
        excluded_subtrees: Vec::new(),
    });
    let ca_key = KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;

    // Not `*.localhost`: browsers want two labels behind the star, and rustls takes a certificate
    // with less, under an authority with constraints, for malformed.
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let is_listed = names.contains(&address.to_string()) || address.is_unspecified();
    names.extend((!is_listed).then(|| address.to_string()));
    let mut leaf = CertificateParams::new(names)?;
    (leaf.not_before, leaf.not_after) = (begins.into(), ends.into());
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate()?;
    let cert = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    Ok((ca_cert.pem(), cert.pem(), key.serialize_pem()))
}

fn names_of_this_machine(address: IpAddr) -> Vec<GeneralSubtree> {
    // A name stands for all below it, too (RFC 5280, section 4.2.1.10).
    let mut names = vec![
        GeneralSubtree::DnsName("localhost".to_owned()),
        GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
        GeneralSubtree::IpAddress(CidrSubnet::V6(LOOPBACK_V6, [255; 16])),
    ];
    if !address.is_loopback() && !address.is_unspecified() {
        names.push(GeneralSubtree::IpAddress(match address {
            IpAddr::V4(address) => CidrSubnet::V4(address.octets(), [255; 4]),
            IpAddr::V6(address) => CidrSubnet::V6(address.octets(), [255; 16]),
        }));
    }
    names
}

/// Where programs keep what is theirs and not configuration.
fn state_dir() -> anyhow::Result<PathBuf> {
    // A relative path there is to be ignored (XDG Base Directory Specification).
    let given = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    if let Some(dir) = given.filter(|dir| dir.is_absolute()) {
        return Ok(dir.join("tidewire"));
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.context("neither HOME nor XDG_STATE_HOME says where files may be kept")?;
    Ok(home.join(if cfg!(target_os = "macos") {
        "Library/Application Support/tidewire"
    } else {
        ".local/state/tidewire"
    }))
}

const CA: &str = "ca.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// One that ends within these is replaced: what runs on it may run for days.
const SPARE_DAYS: i64 = 7;

const LOOPBACK_V6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
