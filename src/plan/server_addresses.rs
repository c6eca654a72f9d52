//! Addresses of servers: that what is said of a Unix socket has a meaning for one.

use tidewire_edge::address::{Address, UNIX_PATH_BYTES_MAX};
use tidewire_edge::backend::BackendConfig;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// Looks at the addresses of the servers of `backend`.
    pub(super) fn server_addresses(&mut self, backend: &BackendConfig, place: Place<'c>) {
        let servers = place.key("server");
        for (index, server) in backend.server.iter().enumerate() {
            let at = servers.index(index);
            let addresses = [
                ("address", Some(&server.address)),
                ("check_address", server.check_address.as_ref()),
            ];
            for (key, address) in addresses {
                let at = at.key(key);
                if at.is_given() && address.is_some_and(Address::is_too_long) {
                    let message =
                        format!("`{}` is too long for a Unix socket where it starts", at.shown());
                    let expected = format!(
                        "expected a path of {UNIX_PATH_BYTES_MAX} bytes at most, with its directory"
                    );
                    self.report(Diagnostic::error(message).at(at.span(), expected));
                }
            }
            let is_unix =
                matches!(server.address, Address::Unix(_)) && at.key("address").is_given();
            if !is_unix {
                continue;
            }
            let port = place.key("check").key("port");
            if server.check && server.check_address.is_none() && port.is_given() {
                let finding = Diagnostic::error("a Unix socket has no port to be probed on");
                let finding = finding.at(port.span(), "this is of no use for it");
                let finding = finding.also(at.key("address").span(), "the Unix socket");
                self.report(finding.help("a server's `check_address` is where it is probed"));
            }
            let Some(tls) = &backend.tls else { continue };
            if tls.needs_server_names() && !server.has_certificate_name() {
                let message = "it is not known which name the certificate of a Unix socket has";
                let finding = Diagnostic::error(message);
                let finding = finding.at(at.key("address").span(), "it has no host");
                let help = "set `server_name` of the server, or of the backend's `tls`";
                self.report(finding.help(help));
            }
        }
    }
}
