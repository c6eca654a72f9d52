//! TLS: that the files of a listener are there, and make a whole.

use std::path::Path;
use std::sync::Arc;

use tidewire_edge::tls::Tls;
use tidewire_edge::tls::date::Date;
use tidewire_edge::tls::fault::{Fault, Finding, Weight, halves};
use tidewire_edge::tls::sources::{
    CertificateFiles, ClientSources, FileSource, Item, Sources, UnknownSni,
};

use super::Checks;
use super::targets::shown_dir;
use crate::config::diagnostic::Diagnostic;
use crate::config::listen::ListenConfig;
use crate::config::place::Place;
use crate::config::tls::TlsConfig;

impl<'c> Checks<'c> {
    /// The TLS of a listener, with its files read; what is wrong with it is reported.
    pub(super) fn tls(&mut self, listener: &ListenConfig, place: Place<'c>) -> Option<Arc<Tls>> {
        let (config, place) = (listener.tls.as_ref()?, place.key("tls"));
        self.period_or_zero("reload", config.reload, place.key("reload"));
        let certificates = place.key("certificate");
        let acme = self.acme_names(&config.acme, place.key("acme"));
        if config.certificate.is_empty() && config.acme.is_empty() {
            if place.is_whole() && place.is_given() {
                let finding = Diagnostic::error("TLS has no certificate");
                let expected = "expected `{ cert = \"chain.pem\", key = \"key.pem\" }`";
                self.report(finding.at(certificates.span(), expected));
            }
            return None;
        }
        if let Some(clients) = &config.client_cert
            && clients.ca.0.is_empty()
        {
            let ca = place.key("client_cert").key("ca");
            let finding = Diagnostic::error("there is no authority for certificates of clients");
            self.report(finding.at(ca.span(), "expected a file, such as \"ca.pem\""));
            return None;
        }
        // A value that was refused has a sample in its place: no file is missed for that.
        if !place.is_whole() {
            return None;
        }
        self.certificate_twice(config, certificates);
        let sources = Sources { acme, ..self.sources(config, place) };
        let now = Date::now();
        let (tls, findings) = Tls::load(&listener.name, sources, config.reload.0, now);
        for finding in findings {
            self.file(&finding, place);
        }
        tls.map(Arc::new)
    }

    fn certificate_twice(&mut self, config: &TlsConfig, place: Place<'_>) {
        let files = |index: usize| &config.certificate[index].cert;
        for second in 1..config.certificate.len() {
            if let Some(first) = (0..second).find(|&first| files(first) == files(second)) {
                let place = |index| place.index(index).key("cert");
                let finding = Diagnostic::error("a certificate is listed twice");
                let finding = finding.at(place(second).span(), "this one is there already");
                self.report(finding.also(place(first).span(), "the first time"));
            }
        }
    }

    fn sources(&self, config: &TlsConfig, place: Place<'_>) -> Sources {
        let source = |path: &Path, place: Place<'_>| FileSource {
            name: place.shown(),
            path: self.dir.join(path),
        };
        let certificate = |(index, one): (usize, &crate::config::tls::CertificateConfig)| {
            let place = place.key("certificate").index(index);
            let ocsp = one.ocsp.as_ref().map(|path| source(path, place.key("ocsp")));
            CertificateFiles {
                cert: source(&one.cert, place.key("cert")),
                key: source(&one.key, place.key("key")),
                ocsp,
            }
        };
        let many = |paths: &[std::path::PathBuf], place: Place<'_>| {
            let paths = paths.iter().enumerate();
            paths.map(|(index, path)| source(path, place.index(index))).collect()
        };
        let clients = config.client_cert.as_ref().map(|clients| {
            let place = place.key("client_cert");
            ClientSources {
                mode: clients.mode,
                ca: many(&clients.ca.0, place.key("ca")),
                crl: many(&clients.crl.0, place.key("crl")),
            }
        });
        let unknown_sni = if config.strict_sni { UnknownSni::Refused } else { UnknownSni::Default };
        Sources {
            certificates: config.certificate.iter().enumerate().map(certificate).collect(),
            acme: None,
            unknown_sni,
            min_version: config.min_version,
            alpn: config.alpn.clone(),
            clients,
        }
    }

    /// Reports what is wrong with a file.
    fn file(&mut self, finding: &Finding, tls: Place<'_>) {
        let certificate = |index: usize| tls.key("certificate").index(index);
        let place = match finding.item {
            Item::Cert(index) => certificate(index).key("cert"),
            Item::Key(index) => certificate(index).key("key"),
            Item::Ocsp(index) => certificate(index).key("ocsp"),
            Item::Ca(index) => tls.key("client_cert").key("ca").index(index),
            Item::Crl(index) => tls.key("client_cert").key("crl").index(index),
        };
        self.file_fault(&finding.fault, place);
    }

    /// Reports what is wrong with the file that is the value at `place`.
    pub(super) fn file_fault(&mut self, fault: &Fault, place: Place<'_>) {
        let text = fault.to_string();
        let (wrong, right) = halves(&text);
        let message = format!("`{}` {wrong}", place.shown());
        let diagnostic = match fault.weight() {
            Weight::Error => Diagnostic::error(message),
            Weight::Warning => Diagnostic::warning(message),
        };
        let is_relative = || Path::new(&place.shown()).is_relative();
        let right = match fault {
            Fault::Missing if !place.is_from_environment() && is_relative() => {
                format!("looked for in {}", shown_dir(self.dir))
            }
            _ => right.to_owned(),
        };
        self.report(diagnostic.at(place.span(), right));
    }
}
