//! Proxies before listeners: that there is one that is believed, and not everybody.

use tidewire_edge::arrival::Arrivals;
use tidewire_edge::peer_set::PeerRange;
use tidewire_edge::proxy_header::ProxyProtocol;
use tidewire_edge::trusted_proxies::TrustedProxies;

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::one_or_many::OneOrMany;
use crate::config::place::Place;

impl<'c> Checks<'c> {
    /// Whose word a listener takes about clients; what is wrong with it is reported.
    pub(super) fn arrivals(&mut self, listener: &ListenConfig, place: Place<'c>) -> Arrivals {
        if let Some(config) = &listener.proxy_protocol {
            self.believed(&config.from, place.key("proxy_protocol").key("from"));
        }
        if let Some(config) = &listener.trusted_proxies {
            self.believed(&config.from, place.key("trusted_proxies").key("from"));
        }
        Arrivals {
            proxy_protocol: listener.proxy_protocol.as_ref().map(|config| ProxyProtocol {
                from: config.from.0.iter().copied().collect(),
                others: config.others,
            }),
            trusted_proxies: listener.trusted_proxies.as_ref().map(|config| TrustedProxies {
                from: config.from.0.iter().copied().collect(),
                header: config.header.clone(),
                scheme: config.scheme,
                host: config.host,
                onward: config.onward,
            }),
        }
    }

    fn believed(&mut self, from: &OneOrMany<PeerRange>, place: Place<'c>) {
        if from.0.is_empty() && place.is_whole() {
            let finding = Diagnostic::error("no proxy is listed: nobody's word is taken");
            let expected = "expected the proxies before this listener, such as \"10.0.0.0/8\"";
            self.report(finding.at(place.span(), expected));
        }
        for (index, range) in from.0.iter().enumerate() {
            let place = place.index(index);
            if is_everybody(range) && place.is_given() {
                let finding = Diagnostic::warning("every client can say that it is somebody else");
                let expected = "this is every address; expected those of the proxies alone";
                self.report(finding.at(place.span(), expected));
            }
        }
    }
}

fn is_everybody(range: &PeerRange) -> bool {
    matches!(range.to_string().as_str(), "0.0.0.0/0" | "::/0")
}
