//! A program for Node.js, with its packages from npm.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{Child, Ended};
use crate::deadline::until;
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
            npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(directory);
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
        until("the node program listens", || {
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
        Child::spawn(command).wait()
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

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the project is there") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_file() {
            let name = path.file_name().expect("a file has a name");
            fs::copy(&path, to.join(name)).expect("the store can be written to");
        }
    }
}
