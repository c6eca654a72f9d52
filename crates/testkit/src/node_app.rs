//! A program for Node.js, with its packages from npm.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

use crate::child::{Child, Ended};
use crate::deadline::{SLOW_PROGRAM, until_within};
use crate::peer::Peer;
use crate::port::{free_port, loopback};
use crate::{skip, store};

/// A project, with the packages that its `package.json` names installed.
#[derive(Debug)]
pub struct NodePackages {
    directory: PathBuf,
}

/// A program of a project, running.
#[derive(Debug)]
pub struct NodeApp {
    address: SocketAddr,
    child: Child,
}

impl NodePackages {
    /// Installs a copy of the project in `source`, which stays as it is; `None`, said aloud, when
    /// that is not possible.
    pub fn install_folder(name: &str, source: &Path) -> Option<Self> {
        if !skip::has("node") || !skip::has("npm") {
            return None;
        }
        let manifest = fs::read_to_string(source.join("package.json")).expect("a package.json");
        let directory = store::fetched(name, &manifest, |directory| {
            copy_files(source, directory);
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund"]).args(PATIENCE);
            npm.arg("--prefix").arg(directory);
            let output = npm.output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(said) }
        });
        match directory {
            Ok(directory) => {
                copy_files(source, &directory);
                Some(Self { directory })
            }
            Err(why) => {
                skip::skip(&format!("npm cannot install {name}: {why}"));
                None
            }
        }
    }

    /// One of its files, to be run.
    pub fn command(&self, file: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(self.directory.join(file));
        command
    }

    /// Runs one of its files; `PORT` in the environment says where it is to listen.
    #[track_caller]
    pub fn start(&self, file: &str) -> NodeApp {
        let address = loopback(free_port());
        let mut command = self.command(file);
        command.env("PORT", address.port().to_string());
        let mut child = Child::spawn(command);
        until_within(SLOW_PROGRAM, "the node program listens", || {
            assert!(!child.has_ended(), "node: {:#?}", child.stderr());
            Peer::try_connect(address).ok()
        });
        NodeApp { address, child }
    }

    /// Runs one of its files to its end.
    #[track_caller]
    pub fn run(&self, file: &str, arguments: &[&str]) -> Ended {
        let mut command = Command::new("node");
        command.arg(self.directory.join(file)).args(arguments);
        Child::spawn(command).wait_for(SLOW_PROGRAM)
    }
}

impl NodeApp {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill();
    }
}

/// Another test may run these files at the same time: none of them is ever there in part.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the project is there") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_file() {
            let text = fs::read(&path).expect("the project can be read");
            let copy = to.join(path.file_name().expect("a file has a name"));
            if fs::read(&copy).is_ok_and(|there| there == text) {
                continue;
            }
            let fresh = NamedTempFile::new_in(to).expect("the store can be written to");
            fs::write(fresh.path(), text).expect("the store can be written to");
            fresh.persist(copy).expect("the store can be written to");
        }
    }
}

/// For a registry that answers slowly: npm itself waits five minutes before it asks again.
const PATIENCE: [&str; 3] =
    ["--fetch-timeout=60000", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=10000"];
