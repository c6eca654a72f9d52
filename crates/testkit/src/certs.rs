//! Authorities of a test's own, and what they sign: certificates of servers and clients, lists of
//! what is revoked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevokedCertParams, RsaKeySize, SerialNumber, date_time_ymd,
};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What is to be certified. Valid for a long time, unless a test says otherwise.
#[derive(Debug)]
pub struct Wanted {
    params: CertificateParams,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ecdsa,
    Rsa,
}

/// What an authority thinks of a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    Good,
    Revoked,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, then those of its issuers but the first of all.
    pub cert: String,
    pub key: String,
    serial: u64,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// An authority below this one.
    pub fn below(&self, name: &str) -> Self {
        let (params, key) = (authority(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Has `openssl ocsp` say, as this authority, what it thinks of the certificate in a file of
    /// `dir`, for 30 days.
    pub fn staple(&self, dir: &Path, cert: &str, out: &str, status: Status) {
        write(&dir.join("ocsp-ca.pem"), &self.pem);
        write(&dir.join("ocsp-ca.key"), self.issuer.key().serialize_pem());
        let run = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(dir).output();
            let output = output.expect("openssl is there");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let serial = run(&["x509", "-in", cert, "-noout", "-serial"]);
        let serial = serial.trim().strip_prefix("serial=").expect("openssl says it so");
        let state = match status {
            Status::Good => "V\t900101000000Z\t",
            Status::Revoked => "R\t900101000000Z\t200101000000Z",
        };
        write(&dir.join("ocsp-index"), format!("{state}\t{serial}\tunknown\t/CN=any\n"));
        let ask = ["-issuer", "ocsp-ca.pem", "-cert", cert, "-reqout", "ocsp-request", "-no_nonce"];
        run(&[&["ocsp"], &ask[..]].concat());
        let by = ["-index", "ocsp-index", "-CA", "ocsp-ca.pem", "-rsigner", "ocsp-ca.pem"];
        let answer = ["-rkey", "ocsp-ca.key", "-reqin", "ocsp-request", "-respout", out];
        run(&[&["ocsp"], &by[..], &answer[..], &["-ndays", "30"]].concat());
    }

    pub fn sign(&self, wanted: Wanted) -> Issued {
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1000);
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Wanted { mut params, kind } = wanted;
        params.serial_number = Some(SerialNumber::from(serial));
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { cert, key: key.serialize_pem(), serial }
    }

    /// A server's certificate for these names.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.sign(Wanted::server(names))
    }

    /// A list of what it has revoked.
    pub fn revokes(&self, revoked: &[&Issued]) -> String {
        self.revokes_until(revoked, 2090)
    }

    /// As [`Authority::revokes`], to be renewed at the beginning of a year.
    pub fn revokes_until(&self, revoked: &[&Issued], year: i32) -> String {
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Wanted {
    pub fn server(names: &[&str]) -> Self {
        Self::new(names, names.first().copied().unwrap_or("nameless"), Usage::Server)
    }

    pub fn client(name: &str) -> Self {
        Self::new(&[], name, Usage::Client)
    }

    fn new(names: &[&str], common: &str, usage: Usage) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        Self { params, kind: Kind::Ecdsa }.between(2020, 2090)
    }

    pub fn rsa(mut self) -> Self {
        self.kind = Kind::Rsa;
        self
    }

    /// Valid until then.
    pub fn until(mut self, end: SystemTime) -> Self {
        self.params.not_after = end.into();
        self
    }

    /// Valid from the beginning of a year until that of another.
    pub fn between(mut self, from: i32, until: i32) -> Self {
        self.params.not_before = date_time_ymd(from, 1, 1);
        self.params.not_after = date_time_ymd(until, 1, 1);
        self
    }
}

enum Usage {
    Server,
    Client,
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key`, the key for its owner only.
    pub fn write(&self, dir: &Path, name: &str) -> &Self {
        write(&dir.join(format!("{name}.pem")), &self.cert);
        write(&dir.join(format!("{name}.key")), &self.key);
        self
    }
}

/// Writes a file for its owner only, beside it first, so that nobody reads half of it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("beside");
    fs::write(&beside, content).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, path).unwrap();
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}
