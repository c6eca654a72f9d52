//! `tidewire check` reads the files of TLS and says what is wrong with them, under the right key.
//! (What is wrong with the configuration alone is in tests/config/tls_wrong.toml.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tidewire_testkit::certs::{Authority, Status, Wanted, write};
use tidewire_testkit::tidewire::command;

/// Good files, and wrong ones of every kind.
fn files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let ca = Authority::new("Test CA");
    let below = ca.below("Test CA 2");
    write(&path("ca.pem"), ca.pem());
    let good = ca.server(&["a.test"]);
    good.write(dir.path(), "good");
    let leaf = below.server(&["b.test"]);
    leaf.write(dir.path(), "leaf");
    write(&path("chain.pem"), leaf.cert.clone() + below.pem());
    write(&path("reversed.pem"), below.pem().to_owned() + &leaf.cert);
    write(&path("gap.pem"), leaf.cert.clone() + ca.pem());
    ca.sign(Wanted::server(&["a.test"]).between(2020, 2021)).write(dir.path(), "expired");
    ca.sign(Wanted::server(&["a.test"]).between(2089, 2090)).write(dir.path(), "early");
    write(&path("text"), "nothing of the kind");
    write(&path("cut.pem"), &good.cert[..good.cert.len() - 40]);
    let der = openssl(dir.path(), &["x509", "-in", "good.pem", "-outform", "der"]);
    write(&path("good.der"), &der);
    let encrypt = ["pkey", "-in", "good.key", "-aes256", "-passout", "pass:x"];
    write(&path("encrypted.key"), openssl(dir.path(), &encrypt));
    let encrypt = ["ec", "-in", "good.key", "-aes256", "-passout", "pass:x"];
    write(&path("encrypted-sec1.key"), openssl(dir.path(), &encrypt));
    write(&path("sec1.key"), openssl(dir.path(), &["ec", "-in", "good.key"]));
    write(&path("two.key"), good.key.clone() + &leaf.key);
    let weak = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    write(&path("weak.key"), openssl(dir.path(), &weak));
    let rsa = ca.sign(Wanted::server(&["a.test"]).rsa());
    rsa.write(dir.path(), "rsa");
    let pkcs1 = openssl(dir.path(), &["rsa", "-in", "rsa.key", "-traditional"]);
    write(&path("pkcs1.key"), pkcs1);
    write(&path("open.key"), &good.key);
    fs::set_permissions(path("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(path("directory.pem")).unwrap();
    ca.staple(dir.path(), "rsa.pem", "another.ocsp", Status::Good);
    ca.staple(dir.path(), "good.pem", "revoked.ocsp", Status::Revoked);
    ca.staple(dir.path(), "good.pem", "good.ocsp", Status::Good);
    write(&path("crl.pem"), ca.revokes(&[]));
    write(&path("old-crl.pem"), ca.revokes_until(&[], 2021));
    dir
}

/// What a run of openssl prints.
fn openssl(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let openssl = std::process::Command::new("openssl").args(arguments).current_dir(dir).output();
    let output = openssl.expect("openssl is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Checks `[listen.tls]` with these lines: the exit code, and `wrong` over the line of `key`.
#[track_caller]
fn check(dir: &TempDir, tls: &str, code: i32, wrong: &[(&str, &str, &str)]) {
    let file = dir.path().join("tidewire.toml");
    let config = format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listen.tls]\n{tls}\n\
         [[route]]\nrespond = {{ status = 200 }}\n"
    );
    fs::write(&file, config).unwrap();
    let output = command().args(["check", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{tls}\n{said}");
    let count = said.matches("error: ").count() + said.matches("warning: ").count();
    assert_eq!(count, wrong.len(), "{tls}\n{said}");
    for (title, underlined, right) in wrong {
        let (_, rest) = said.split_once(title).unwrap_or_else(|| panic!("no {title} in\n{said}"));
        let finding = rest.split("\n\n").next().unwrap();
        let mut lines = finding.lines().rev();
        let caret = lines.find(|line| line.contains('^')).expect("a caret");
        let line = lines.next().expect("the line that it is under");
        let start = caret.find('^').unwrap();
        let end = start + caret.matches('^').count();
        assert_eq!(line.get(start..end), Some(*underlined), "{said}");
        assert!(caret.contains(right), "{right:?} is not in {caret:?}");
    }
}

#[test]
fn files_that_are_right_are_right() {
    let dir = files();
    for (cert, key) in [
        ("good.pem", "good.key"),
        ("good.pem", "sec1.key"),
        ("rsa.pem", "pkcs1.key"),
        ("chain.pem", "leaf.key"),
        ("leaf.pem", "leaf.key"),
    ] {
        check(&dir, &format!("certificate = [{{ cert = \"{cert}\", key = \"{key}\" }}]"), 0, &[]);
    }
    let staple = GOOD.replace(" }", ", ocsp = \"good.ocsp\" }");
    check(&dir, &format!("certificate = [{staple}]"), 0, &[]);
    let clients = "client_cert = { ca = [\"ca.pem\"], crl = [\"crl.pem\"] }";
    check(&dir, &format!("certificate = [{GOOD}]\n{clients}"), 0, &[]);
}

const GOOD: &str = "{ cert = \"good.pem\", key = \"good.key\" }";

#[test]
fn what_is_wrong_with_a_certificate_is_said_under_it() {
    let dir = files();
    let check = |cert: &str, key: &str, code: i32, title: &str, right: &str| {
        let tls = format!("certificate = [{{ cert = \"{cert}\", key = \"{key}\" }}]");
        check(&dir, &tls, code, &[(title, &format!("\"{cert}\""), right)]);
    };
    check("none.pem", "good.key", 1, "`none.pem` is not there", "looked for in");
    check("directory.pem", "good.key", 1, "cannot be read: is a directory", "");
    check("text", "good.key", 1, "`text` has no certificate", "BEGIN CERTIFICATE");
    check("leaf.key", "good.key", 1, "has a key and no certificate", "wrong way round");
    check("good.der", "good.key", 1, "`good.der` is DER", "openssl x509");
    check("cut.pem", "good.key", 1, "`cut.pem` is not PEM: a section has no end", "");
    check("reversed.pem", "leaf.key", 1, "of the key in second place", "expected it first");
    check("gap.pem", "leaf.key", 1, "is out of order: the second", "`CN=Test CA 2`");
    check("expired.pem", "expired.key", 0, "`expired.pem` expired on 2021-01-01", "refuse");
    check("early.pem", "early.key", 0, "is not valid before 2089-01-01", "refuse");
}

#[test]
fn what_is_wrong_with_a_key_is_said_under_it() {
    let dir = files();
    let check = |key: &str, code: i32, title: &str, right: &str| {
        let tls = format!("certificate = [{{ cert = \"good.pem\", key = \"{key}\" }}]");
        check(&dir, &tls, code, &[(title, &format!("\"{key}\""), right)]);
    };
    check("none.key", 1, "`none.key` is not there", "looked for in");
    check("text", 1, "`text` has no private key", "BEGIN PRIVATE KEY");
    check("leaf.pem", 1, "has a certificate and no key", "wrong way round");
    check("leaf.key", 1, "is not the key of the certificate", "that was certified");
    check("two.key", 1, "has 2 private keys", "expected one");
    check("weak.key", 1, "has a key of a kind that is not spoken", "RSA (2048");
    for key in ["encrypted.key", "encrypted-sec1.key"] {
        check(key, 1, "is encrypted, and nobody is asked", "openssl pkey");
    }
    check("open.key", 0, "can be read by every user", "chmod 600");
}

#[test]
fn what_is_wrong_with_a_staple_is_said_under_it() {
    let dir = files();
    let check = |ocsp: &str, title: &str| {
        let tls = format!(
            "certificate = [{{ cert = \"good.pem\", key = \"good.key\", ocsp = \"{ocsp}\" }}]"
        );
        check(&dir, &tls, 1, &[(title, &format!("\"{ocsp}\""), "")]);
    };
    check("none.der", "`none.der` is not there");
    check("text", "`text` is no OCSP response");
    check("good.der", "`good.der` is no OCSP response");
    check("another.ocsp", "`another.ocsp` is about another certificate");
    check("revoked.ocsp", "says that the certificate is revoked");
}

#[test]
fn what_is_wrong_with_the_authorities_of_clients_is_said_under_it() {
    let dir = files();
    let check = |ca: &str, crl: &str, code: i32, title: &str, at: &str| {
        let tls = format!(
            "certificate = [{GOOD}]\nclient_cert = {{ ca = [\"ca.pem\", {ca}], crl = {crl} }}"
        );
        check(&dir, &tls, code, &[(title, at, "")]);
    };
    check("\"none.pem\"", "[]", 1, "`none.pem` is not there", "\"none.pem\"");
    check("\"text\"", "[]", 1, "`text` has no certificate", "\"text\"");
    check("\"good.pem\"", "[]", 1, "has a certificate that is not a CA's", "\"good.pem\"");
    let ca = "\"ca.pem\"";
    check(ca, "\"ca.pem\"", 1, "`ca.pem` has no revocation list", "\"ca.pem\"");
    check(ca, "[\"crl.pem\", \"good.der\"]", 1, "a broken revocation list", "\"good.der\"");
    check(ca, "\"old-crl.pem\"", 0, "was to be renewed by 2021-01-01", "\"old-crl.pem\"");
}

#[test]
fn a_certificate_that_is_listed_twice_is_said() {
    let dir = files();
    let tls = format!("certificate = [{GOOD}, {GOOD}]");
    check(&dir, &tls, 1, &[("a certificate is listed twice", "\"good.pem\"", "already")]);
}
