//! `tidewire token`: what it makes is taken, what is wrong is said in a line, and no secret shows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SECRET: &str = "a secret of thirty-two bytes, ok";

/// A directory with files of its own.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Writes a configuration with these methods.
    fn config(&self, auth: &str) {
        let rest = "[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\n[[route]]\n\
                    respond = { status = 204 }\n\n";
        self.write("edge.toml", &format!("{rest}{auth}"));
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("TOKEN_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// What is printed by a command that succeeds.
    #[track_caller]
    fn printed(&self, args: &[&str], input: &str) -> String {
        let Output { status, stdout, stderr } = self.run(args, input);
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "{args:?}: {status} {stderr}");
        String::from_utf8(stdout).unwrap()
    }

    #[track_caller]
    fn make(&self, args: &str) -> String {
        let args: Vec<&str> = ["token", "make"].into_iter().chain(args.split(' ')).collect();
        self.printed(&args, "")
    }

    /// `code` is that of `token check`, `expected` a piece of the one line that it says.
    #[track_caller]
    fn check(&self, token: &str, code: i32, expected: &str) {
        let Output { status, stdout, stderr } =
            self.run(&["token", "check", "-c", "edge.toml", "--auth", "users"], token);
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{expected:?}: {said:?}");
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_token_that_is_made_is_one_that_is_taken() {
    let desk = Desk::new();
    desk.config("[[auth]]\nname = 'users'\njwt = { secret = '${TOKEN_SECRET}' }\n");
    desk.check(&desk.make("--secret-env TOKEN_SECRET --sub ann"), 0, "takes it for `ann`, for 1h");
    desk.check(&desk.make("--secret-env TOKEN_SECRET --sub ann --exp 5m"), 0, "`ann`, for 5m");
    desk.write("secret", &format!("{SECRET}\n"));
    desk.check(&desk.make("--secret-file secret --sub bob --nbf 10s"), 0, "takes it for `bob`");
    desk.check(&desk.make("--secret-file secret --sub bob --nbf 1m"), 1, "valid from");
    desk.check(&desk.make("--secret-file secret --no-exp"), 1, "has no `exp`");
    desk.check(&desk.make("--secret-file secret --aud chat"), 1, "no `audience` is configured");
    desk.write("other", "another secret of more than thirty-two bytes\n");
    desk.check(&desk.make("--secret-file other --sub eve"), 1, "the signature is wrong");
    desk.check("", 1, "three parts");
    desk.check("a.b.c\n", 1, "header of the token is not base64url");
    desk.check(&"x".repeat(1 << 20), 1, "more than the 8192 of `max_bytes`");
}

#[test]
fn a_key_pair_signs_and_its_public_half_checks() {
    let desk = Desk::new();
    for alg in ["ES256", "ES384", "EdDSA", "RS256", "PS256"] {
        desk.printed(&["token", "keypair", "--alg", alg, "--out", alg], "");
        let mode = |end: &str| {
            let path = desk.path().join(format!("{alg}.{end}"));
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("private.pem"), 0o600);
        let token = desk.make(&format!("--key {alg}.private.pem --sub ann --alg {alg}"));
        for keys in ["key = 'X.public.pem'", "jwks = 'X.jwks.json'"] {
            let keys = keys.replace('X', alg);
            desk.config(&format!("[[auth]]\nname = 'users'\njwt = {{ {keys} }}\n"));
            desk.check(&token, 0, "takes it for `ann`");
        }
        // The set has one key, of another name than this token's.
        let token = desk.make(&format!("--key {alg}.private.pem --kid other --alg {alg}"));
        desk.check(&token, 1, "and this `kid`");
        let again = desk.run(&["token", "keypair", "--alg", alg, "--out", alg], "");
        assert_eq!(again.status.code(), Some(1));
        let config = format!("[[auth]]\nname = 'users'\njwt = {{ key = '{alg}.private.pem' }}\n");
        desk.config(&config);
        let refused = desk.run(&["token", "check", "-c", "edge.toml"], &token);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("it is a private key"), "{said}");
    }
    let all = desk.printed(&["token", "keypair"], "");
    assert!(all.contains("PRIVATE KEY") && all.contains("PUBLIC KEY") && all.contains("\"keys\""));
}

#[test]
fn keys_of_openssl_are_taken() {
    let desk = Desk::new();
    let openssl = |args: &str| {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(desk.path()).output();
        assert!(output.unwrap().status.success(), "openssl {args}");
    };
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
    openssl("pkey -in ec.pem -pubout -out ec.public.pem");
    openssl("genpkey -algorithm ed25519 -out ed.pem");
    openssl("pkey -in ed.pem -pubout -out ed.public.pem");
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
    openssl("req -x509 -key rsa.pem -subj /CN=issuer -days 2 -out rsa.public.pem");
    for name in ["ec", "ed", "rsa"] {
        let config = format!("[[auth]]\nname = 'users'\njwt = {{ key = '{name}.public.pem' }}\n");
        desk.config(&config);
        desk.check(&desk.make(&format!("--key {name}.pem --sub ann")), 0, "takes it for `ann`");
    }
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.pem");
    openssl("pkey -in weak.pem -pubout -out weak.public.pem");
    desk.config("[[auth]]\nname = 'users'\njwt = { key = 'weak.public.pem' }\n");
    let refused = desk.run(&["token", "check", "-c", "edge.toml"], "");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("an RSA key of 1024 bits"), "{said}");
}

#[test]
fn claims_of_the_command_line_are_in_the_token_and_shown_with_a_warning() {
    let desk = Desk::new();
    let token = desk.make(
        "--secret-env TOKEN_SECRET --sub ann --jti t1 --iss me --aud a --aud b --kid k --typ at+jwt \
         --claim role=admin --claim rooms:=[\"x\",1]",
    );
    let Output { status, stdout, stderr } = desk.run(&["token", "show"], &token);
    assert!(status.success());
    let said = String::from_utf8(stderr).unwrap();
    assert!(said.starts_with("NOT VERIFIED") && said.contains("exp: ends in "), "{said}");
    let shown = String::from_utf8(stdout).unwrap();
    for piece in [
        "\"alg\": \"HS256\"",
        "\"kid\": \"k\"",
        "\"typ\": \"at+jwt\"",
        "\"sub\": \"ann\"",
        "\"jti\": \"t1\"",
        "\"iss\": \"me\"",
        "\"role\": \"admin\"",
    ] {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
    let again = desk.make("--secret-env TOKEN_SECRET");
    let id = |token: &str| desk.printed(&["token", "show"], token);
    assert_ne!(id(&again), id(&desk.make("--secret-env TOKEN_SECRET")), "each has its own jti");
}

#[test]
fn a_token_or_a_secret_on_the_command_line_is_refused() {
    let desk = Desk::new();
    for args in [
        &["token", "show", "a.b.c"][..],
        &["token", "check", "-c", "edge.toml", "a.b.c"],
        &["token", "make", "--secret", SECRET],
        &["token", "make"],
        &["token", "make", "--secret-env", "A", "--key", "b"],
        &["token", "password", "--user", "ann", "hunter2"],
    ] {
        let Output { status, stdout, .. } = desk.run(args, "");
        assert_eq!((status.code(), stdout.is_empty()), (Some(2), true), "{args:?}");
    }
    let short = Desk::new();
    short.write("secret", "too short");
    let Output { status, stderr, .. } =
        short.run(&["token", "make", "--secret-file", "secret"], "");
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("has 9 bytes; HS256 needs at least 32"), "{said}");
}

#[test]
fn lines_for_keys_and_users_do_not_have_what_they_check() {
    let desk = Desk::new();
    let printed = desk.printed(&["token", "key", "--name", "billing"], "");
    let [key, line] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    assert!(key.starts_with("tw_") && key.len() == 46, "{key}");
    assert!(line.starts_with("billing:") && line.len() == 72 && !line.contains(key), "{line}");
    desk.write("keys", &printed[key.len() + 1..]);
    let line = desk.printed(&["token", "password", "--user", "ann"], "hunter2\n");
    assert!(line.starts_with("ann:$argon2id$v=19$m=19456,t=2,p=1$"), "{line}");
    assert!(!line.contains("hunter2"));
    assert_ne!(line, desk.printed(&["token", "password", "--user", "ann"], "hunter2\n"));
    desk.write("users", &line);
    desk.config(
        "[[auth]]\nname = 'programs'\napi_key = { file = 'keys' }\n\n\
         [[auth]]\nname = 'people'\nbasic = { users = 'users' }\n",
    );
    assert!(desk.printed(&["check", "-c", "edge.toml"], "").contains("basic"));
    for (user, password) in [("a:b", "x"), ("", "x"), ("a b", "x"), ("#a", "x"), ("a", "")] {
        let wrong = desk.run(&["token", "password", "--user", user], password);
        assert_eq!(wrong.status.code(), Some(1), "{user:?}");
    }
}

#[test]
fn the_method_is_found_by_its_name_or_because_it_is_the_only_one() {
    let desk = Desk::new();
    let jwt = |name: &str| {
        format!("[[auth]]\nname = '{name}'\njwt = {{ secret = '${{TOKEN_SECRET}}' }}\n\n")
    };
    let token = desk.make("--secret-env TOKEN_SECRET --sub ann");
    let ask = |desk: &Desk, more: &[&str]| {
        let args = [&["token", "check", "-c", "edge.toml"], more].concat();
        let Output { status, stdout, stderr } = desk.run(&args, &token);
        (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    desk.config(&jwt("one"));
    assert_eq!(ask(&desk, &[]).0, 0);
    desk.config(&(jwt("one") + &jwt("two")));
    assert!(ask(&desk, &[]).1.contains("2 `[[auth]]` take tokens; name one, such as `--auth one`"));
    assert_eq!(ask(&desk, &["--auth", "two", "-"]).0, 0);
    let (code, said) = ask(&desk, &["--auth", "three"]);
    assert!(code == 2 && said.contains("there is no `[[auth]]` `three`"), "{said}");
    desk.config("");
    assert!(ask(&desk, &[]).1.contains("no `[[auth]]` of this configuration takes tokens"));
    // One that cannot be reached.
    desk.config("[[auth]]\nname = 'users'\njwt = { jwks = 'http://127.0.0.1:1/keys' }\n");
    let (code, said) = ask(&desk, &[]);
    assert!(code == 2 && said.contains("key set of `users` cannot be used"), "{said}");
}
