//! The files of `examples/secure`, with ports that are free in place of their own, and keys that
//! its script has made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::child::Child;
use crate::deadline::{SLOW_PROGRAM, until_within};
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::redis::RedisServer;
use crate::skip;
use crate::template::filled;
use crate::tidewire::{Tidewire, command};

/// The example's machines, running.
#[derive(Debug)]
pub struct Secure {
    pub edge: Tidewire,
    pub nodes: [Tidewire; 2],
    /// The site, such as `https://localhost:8443`.
    pub site: String,
    /// The port of the other site that may come; nothing is there.
    pub listed: u16,
    /// Where plain HTTP is sent on.
    pub plain: String,
    pub files: Files,
    _login: Child,
    _redis: RedisServer,
}

/// A copy of the example's files, with keys.
#[derive(Debug)]
pub struct Files {
    directory: TempDir,
}

/// Which ports stand for those of the files.
struct Ports {
    site: u16,
    listed: u16,
    plain: u16,
    admin: u16,
    login: u16,
    nodes: [u16; 2],
    redis: String,
}

impl Secure {
    /// Starts them all, with more in the environment of the login service; `None`, said aloud, when
    /// something is missing.
    #[track_caller]
    pub fn start(login: &[(&str, &str)]) -> Option<Self> {
        let files = Files::make()?;
        if !skip::has("node") || !skip::has("curl") {
            return None;
        }
        let redis = RedisServer::start()?;
        let ports = Ports {
            site: free_port(),
            listed: free_port(),
            plain: free_port(),
            admin: free_port(),
            login: free_port(),
            nodes: [free_port(), free_port()],
            redis: redis.url(),
        };
        let _login = files.log_in_service(&ports, login);
        let nodes = [1, 2].map(|number| {
            let own = (format!("127.0.0.1:909{number}"), "127.0.0.1:0".to_owned());
            Tidewire::run(&files.with_ports(&format!("server{number}.toml"), &ports, &[own]))
        });
        nodes.iter().for_each(Tidewire::wait_until_ready);
        let own = [
            ("127.0.0.1:8443".to_owned(), loopback(ports.site).to_string()),
            ("127.0.0.1:8080".to_owned(), loopback(ports.plain).to_string()),
            ("https_redirect = 8443".to_owned(), format!("https_redirect = {}", ports.site)),
            ("127.0.0.1:9090".to_owned(), loopback(ports.admin).to_string()),
            ("127.0.0.1:4000".to_owned(), loopback(ports.login).to_string()),
            ("127.0.0.1:3001".to_owned(), loopback(ports.nodes[0]).to_string()),
            ("127.0.0.1:3002".to_owned(), loopback(ports.nodes[1]).to_string()),
        ];
        let edge = Tidewire::run(&files.with_ports("edge.toml", &ports, &own));
        edge.wait_until_ready();
        let site = format!("https://localhost:{}", ports.site);
        let plain = format!("http://localhost:{}", ports.plain);
        let listed = ports.listed;
        Some(Self { edge, nodes, site, listed, plain, files, _login, _redis: redis })
    }

    /// A WebSocket's address.
    pub fn websocket(&self, room: &str) -> String {
        format!("{}/ws/{room}", self.site.replacen("https", "wss", 1))
    }

    /// Another site, with a page that does nothing; it has the same host, so that browsers send it
    /// the same cookies.
    #[track_caller]
    pub fn other_site(&self, port: u16) -> Tidewire {
        let keys = self.files.keys();
        let (cert, key) = (keys.join("tls.pem"), keys.join("tls.key"));
        Tidewire::run(&format!(
            r#"
[[listen]]
name = "other"
bind = "127.0.0.1:{port}"
[listen.tls]
certificate = [{{ cert = "{}", key = "{}" }}]
[[route]]
respond = {{ status = 200, body = "Another site." }}
"#,
            cert.display(),
            key.display()
        ))
    }

    /// A browser that trusts the example's certificate.
    #[track_caller]
    pub fn browser(&self) -> Option<Browser> {
        let hash = self.files.run("sh", &["-c", PUBLIC_KEY_HASH]);
        Browser::start_with(&[&format!("--ignore-certificate-errors-spki-list={}", hash.trim())])
    }

    /// What `curl` says when it is asked for this path of the site, such as its status: `show` is
    /// its `--write-out`, and the body comes before it.
    #[track_caller]
    pub fn curl(&self, path: &str, show: &str, arguments: &[&str]) -> String {
        let url = format!("{}{path}", self.site);
        let own = ["-s", "--cacert", "keys/tls.pem", "--max-time", "20", "-w", show, &url];
        self.files.run("curl", &[&own, arguments].concat())
    }
}

impl Files {
    /// Copies them and has the keys made.
    #[track_caller]
    pub fn make() -> Option<Self> {
        if !skip::has("openssl") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        copy(&path(), directory.path());
        let files = Self { directory };
        files.run("./make-keys", &[]);
        Some(files)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn keys(&self) -> PathBuf {
        self.directory().join("keys")
    }

    /// What a program writes to stdout that is run here.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut run = Command::new(program);
        run.current_dir(self.directory()).args(arguments);
        run.env("TIDEWIRE", command().get_program());
        let output = run.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {} {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn log_in_service(&self, ports: &Ports, more: &[(&str, &str)]) -> Child {
        let mut node = Command::new("node");
        node.arg(self.directory().join("login/index.js"))
            .env("PORT", ports.login.to_string())
            .env("SITE", format!("https://localhost:{}", ports.site))
            .env("ADMIN", format!("http://127.0.0.1:{}", ports.admin))
            .envs(more.iter().copied());
        let mut child = Child::spawn(node);
        until_within(SLOW_PROGRAM, "the login service listens", || {
            assert!(!child.has_ended(), "node: {:#?}", child.stderr());
            Peer::try_connect(loopback(ports.login)).ok()
        });
        child
    }

    /// A file with what all of them have replaced, and `own`; each is in it.
    #[track_caller]
    fn with_ports(&self, name: &str, ports: &Ports, own: &[(String, String)]) -> String {
        let text = fs::read_to_string(self.directory().join(name)).expect("the example has it");
        let number = name.strip_prefix("server").and_then(|rest| rest[..1].parse::<usize>().ok());
        let node = number.map(|number| {
            let port = ports.nodes[number - 1];
            (format!("127.0.0.1:300{number}"), loopback(port).to_string())
        });
        // A Redis that is busy for a while is not away.
        let broker = format!("broker_timeout = \"15s\"\nbroker = \"{}\"", ports.redis);
        let shared = [
            ("https://localhost:8443".to_owned(), format!("https://localhost:{}", ports.site)),
            ("https://localhost:8444".to_owned(), format!("https://localhost:{}", ports.listed)),
            ("\"keys/".to_owned(), format!("\"{}/", self.keys().display())),
            ("broker = \"redis://127.0.0.1:6379\"".to_owned(), broker),
        ];
        let all = shared.iter().chain(own).chain(&node);
        let all: Vec<_> = all.map(|(from, to)| (from.as_str(), to.as_str())).collect();
        filled(name, &text, &all)
    }
}

/// The example's directory.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/secure")
}

/// Copies a directory, but for keys that somebody has made in it.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory can be listed") {
        let path = entry.expect("a directory can be listed").path();
        let target = to.join(path.file_name().expect("a file has a name"));
        if path.is_file() {
            fs::copy(&path, target).expect("a directory can be written to");
        } else if !path.ends_with("keys") {
            fs::create_dir(&target).expect("a directory can be written to");
            copy(&path, &target);
        }
    }
}

/// As Chromium names a key that it is to trust.
const PUBLIC_KEY_HASH: &str = "openssl x509 -in keys/tls.pem -pubkey -noout | \
     openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64";
