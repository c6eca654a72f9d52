//! Lists of addresses: that somebody may come, and that files of them can be read.

use std::path::PathBuf;

use tidewire_edge::address_rules::{AddressFileError, AddressList, AddressRules};
use tidewire_edge::network::Network;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::one_or_many::OneOrMany;
use crate::config::place::Place;
use crate::config::route::RouteConfig;

/// The keys of a listener or a route that are about addresses.
pub(super) struct AddressKeys<'c> {
    allow: List<'c>,
    deny: List<'c>,
}

/// One of the two lists: what is in the configuration, and its file.
struct List<'c> {
    key: &'static str,
    file_key: &'static str,
    own: Option<&'c OneOrMany<Network>>,
    file: Option<&'c PathBuf>,
}

macro_rules! keys_of {
    ($config:ty) => {
        impl<'c> From<&'c $config> for AddressKeys<'c> {
            fn from(it: &'c $config) -> Self {
                let list = |(key, own), (file_key, file)| List { key, file_key, own, file };
                Self {
                    allow: list(
                        ("allow", it.allow.as_ref()),
                        ("allow_file", it.allow_file.as_ref()),
                    ),
                    deny: list(("deny", it.deny.as_ref()), ("deny_file", it.deny_file.as_ref())),
                }
            }
        }
    };
}

keys_of!(ListenConfig);
keys_of!(RouteConfig);

impl<'c> Checks<'c> {
    /// Who may come to a listener or route at `place`, by address.
    pub(super) fn addresses(&mut self, keys: &AddressKeys<'_>, place: Place<'c>) -> AddressRules {
        let allow = self.address_list(&keys.allow, place);
        let is_whole = place.key("allow").is_whole() && place.key("allow_file").is_whole();
        if let Some(list) = allow.as_ref().filter(|list| list.is_empty() && is_whole) {
            let key = if keys.allow.file.is_some() { "allow_file" } else { "allow" };
            let message = format!("`{key}` has no address in it: nobody may come");
            // A file may be filled later.
            let finding = match list.has_file() {
                true => Diagnostic::warning(message),
                false => Diagnostic::error(message),
            };
            let expected = "expected such as \"10.0.0.0/8\"; leave it out to take all";
            self.report(finding.at(place.key(key).span(), expected));
        }
        AddressRules::new(allow, self.address_list(&keys.deny, place))
    }

    fn address_list(&mut self, list: &List<'_>, place: Place<'c>) -> Option<AddressList> {
        let List { key, file_key, own, file } = list;
        // What was wrong has been reported, and nothing is run then.
        if own.is_none() && file.is_none() {
            return None;
        }
        debug_assert!(
            place.key(key).is_given() || place.key(file_key).is_given() || !place.is_whole()
        );
        let own = own.map_or_else(Vec::new, |own| own.0.clone());
        let path = file.map(|file| self.dir.join(file));
        match AddressList::new(own.clone(), path) {
            Ok(list) => Some(list),
            Err(error) => {
                self.address_file(file_key, &error, place);
                AddressList::new(own, None).ok()
            }
        }
    }

    fn address_file(&mut self, key: &str, error: &AddressFileError, place: Place<'c>) {
        let place = place.key(key);
        let shown = place.shown();
        match error {
            AddressFileError::Lines(lines) => {
                for wrong in lines {
                    let message = format!("{shown}:{}: {}", wrong.line, wrong.error);
                    self.report(Diagnostic::error(message).at(place.span(), "in this file"));
                }
            }
            AddressFileError::Read(_) | AddressFileError::NotText => {
                let message = format!("`{key}`: `{shown}`: {error}");
                let expected = "expected a file with an address or network in each line";
                self.report(Diagnostic::error(message).at(place.span(), expected));
            }
        }
    }
}
