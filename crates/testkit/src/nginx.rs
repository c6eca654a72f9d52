//! Debian's nginx with a configuration of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::child::Child;
use crate::deadline::until;
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::skip;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    _child: Child,
    directory: TempDir,
}

impl Nginx {
    /// Starts one with `blocks` (`http { .. }`, `stream { .. }`), in which `{port}` stands for the
    /// port that it listens on; `None`, said aloud, when there is no such program.
    #[track_caller]
    pub fn start(blocks: &str) -> Option<Self> {
        if !skip::has("nginx") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().display();
        let address = loopback(free_port());
        let module = match blocks.contains("stream {") {
            true if Path::new(STREAM).exists() => format!("load_module {STREAM};\n"),
            true if !has_stream() => {
                skip::skip("nginx has no module for streams (libnginx-mod-stream)");
                return None;
            }
            _ => String::new(),
        };
        let config = format!(
            "{module}daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log stderr;\n\
             events {{}}\n{blocks}"
        );
        let config = config
            .replace("{port}", &address.port().to_string())
            .replace("{dir}", &path.to_string());
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a temporary directory can be written to");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(directory.path());
        let mut child = Child::spawn(command);
        until("nginx listens", || {
            assert!(!child.has_ended(), "nginx: {:#?}", child.stderr());
            Peer::try_connect(address).ok()
        });
        Some(Self { address, _child: child, directory })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory that `{dir}` stands for.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Whether streams are built in.
fn has_stream() -> bool {
    let options = Command::new("nginx").arg("-V").output().map(|output| output.stderr);
    let options = options.unwrap_or_default();
    String::from_utf8_lossy(&options).split_whitespace().any(|option| option == "--with-stream")
}

/// A module of its own in Debian's.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
