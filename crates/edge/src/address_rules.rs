//! Who may come, by address: lists in the configuration, and files that are read again when they
//! change.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidewire_auth::kept_file::{KeptFile, LOOK_PERIOD};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::network::Network;
use crate::network_set::{self, LineError, NetworkSet};

/// Which addresses may come: none that is denied, and if some are allowed, only those.
#[derive(Debug, Default)]
pub struct AddressRules {
    allow: Option<AddressList>,
    deny: Option<AddressList>,
    asked: Notify,
}

/// Networks of the configuration and of a file.
#[derive(Debug)]
pub struct AddressList {
    own: Vec<Network>,
    file: Option<KeptFile>,
    current: ArcSwap<NetworkSet>,
}

/// What is wrong with a file of addresses.
#[derive(Debug, thiserror::Error)]
pub enum AddressFileError {
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("{}", lines(.0))]
    Lines(Vec<LineError>),
}

impl AddressRules {
    pub fn new(allow: Option<AddressList>, deny: Option<AddressList>) -> Self {
        Self { allow, deny, asked: Notify::new() }
    }

    /// Whether there are none, whatever is in their files.
    pub fn is_empty(&self) -> bool {
        self.allow.is_none() && self.deny.is_none()
    }

    pub fn admits(&self, address: IpAddr) -> bool {
        let has = |list: &AddressList| list.current.load().contains(address);
        !self.deny.as_ref().is_some_and(has) && self.allow.as_ref().is_none_or(has)
    }

    /// Whether whoever was let in may be one who is not any more.
    pub fn may_change(&self) -> bool {
        self.lists().any(AddressList::has_file)
    }

    fn lists(&self) -> impl Iterator<Item = &AddressList> {
        self.allow.iter().chain(&self.deny)
    }

    /// Has the files read again now, if they have changed.
    pub fn ask_for_reload(&self) {
        self.asked.notify_one();
    }
}

impl AddressList {
    pub fn new(own: Vec<Network>, file: Option<PathBuf>) -> Result<Self, AddressFileError> {
        let (file, more) = match file.map(KeptFile::open).transpose()? {
            None => (None, Vec::new()),
            Some((file, bytes)) => (Some(file), parse(bytes)?),
        };
        let current: NetworkSet = own.iter().copied().chain(more).collect();
        Ok(Self { own, file, current: ArcSwap::from_pointee(current) })
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.current.load().is_empty()
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Its file, if that has changed and does not change any more.
    fn changed(&self) -> Option<(&Path, Result<Vec<Network>, AddressFileError>)> {
        let file = self.file.as_ref()?;
        let mut read = file.changed()?;
        // Whoever does not put a new file in place of the old one writes it piece by piece.
        for _ in 0..SETTLE_LOOKS {
            std::thread::sleep(SETTLED);
            match file.changed() {
                Some(again) => read = again,
                None => break,
            }
        }
        Some((file.path(), read.map_err(AddressFileError::from).and_then(parse)))
    }

    fn look(&self) {
        let Some((path, read)) = self.changed() else { return };
        let path = path.display();
        match read {
            Ok(networks) => {
                let count = networks.len();
                self.current.store(Arc::new(self.own.iter().copied().chain(networks).collect()));
                tracing::info!(%path, count, "addresses are read again");
            }
            Err(error) => {
                tracing::error!(%path, %error, "addresses are as before: the file is wrong");
            }
        }
    }
}

/// Starts a task for each list that has a file.
pub fn spawn<'r>(
    all: impl Iterator<Item = &'r Arc<AddressRules>>,
    control: &Handle,
) -> Vec<JoinHandle<()>> {
    let start = |rules: &Arc<AddressRules>| control.spawn(keep(Arc::clone(rules)));
    all.filter(|rules| rules.lists().any(|list| list.file.is_some())).map(start).collect()
}

async fn keep(rules: Arc<AddressRules>) {
    loop {
        tokio::select! {
            () = rules.asked.notified() => {}
            () = sleep(LOOK_PERIOD) => {}
        }
        let looking = Arc::clone(&rules);
        // A file system may hang, and the control plane has one thread.
        let looked = spawn_blocking(move || looking.lists().for_each(AddressList::look)).await;
        if looked.is_err() {
            tracing::error!("reading files of addresses again went wrong");
        }
    }
}

fn parse(bytes: Vec<u8>) -> Result<Vec<Network>, AddressFileError> {
    let text = String::from_utf8(bytes).map_err(|_| AddressFileError::NotText)?;
    network_set::read(&text).map_err(AddressFileError::Lines)
}

fn lines(errors: &[LineError]) -> String {
    errors.iter().map(LineError::to_string).collect::<Vec<_>>().join("; ")
}

/// A file that stays the same for as long is all written.
const SETTLED: Duration = Duration::from_millis(200);

/// A file that never rests is read all the same.
const SETTLE_LOOKS: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(networks: &[&str]) -> AddressList {
        let own = networks.iter().map(|text| text.parse().unwrap()).collect();
        AddressList::new(own, None).unwrap()
    }

    fn check(rules: &AddressRules, address: &str, expected: bool) {
        assert_eq!(rules.admits(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn denied_goes_before_allowed() {
        let allow = || Some(list(&["10.0.0.0/8"]));
        let deny = || Some(list(&["10.6.0.0/16"]));
        let both = AddressRules::new(allow(), deny());
        check(&both, "10.0.0.1", true);
        check(&both, "10.6.6.6", false);
        check(&both, "192.0.2.1", false);
        let denied = AddressRules::new(None, deny());
        check(&denied, "10.6.6.6", false);
        check(&denied, "::ffff:10.6.6.6", false);
        check(&denied, "::1", true);
        check(&AddressRules::default(), "::1", true);
    }

    #[test]
    fn a_file_that_is_wrong_leaves_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocked");
        std::fs::write(&path, "192.0.2.0/24\n").unwrap();
        let own = vec!["10.0.0.1".parse().unwrap()];
        let list = AddressList::new(own, Some(path.clone())).unwrap();
        let has = |address: &str| list.current.load().contains(address.parse().unwrap());
        assert!(has("192.0.2.9") && has("10.0.0.1"));
        std::fs::write(&path, "192.0.2.9/24\n").unwrap();
        list.look();
        assert!(has("192.0.2.9"));
        std::fs::write(&path, "198.51.100.0/24\n").unwrap();
        list.look();
        assert!(!has("192.0.2.9") && has("198.51.100.7") && has("10.0.0.1"));
    }
}
