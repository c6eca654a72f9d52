//! The whole way to a certificate, against an authority over real sockets; only the node is not
//! there: a thread answers handshakes with what is on offer.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use tidewire_edge::challenge::{ALPN, Challenges};
use tidewire_runtime::units::Period;
use tidewire_testkit::acme::Acme as TestAuthority;
use tidewire_testkit::deadline::until;

use super::config::AcmeConfig;
use super::issued::Issued;
use super::metrics::{AcmeMetrics, OrderResult};
use super::names::Names;
use super::thread::Acme;

#[derive(Debug)]
struct OnOffer(Vec<Arc<Challenges>>);

impl ResolvesServerCert for OnOffer {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        self.0.iter().find_map(|challenges| challenges.certificate(name))
    }
}

/// Answers handshakes at a port, which it returns, with what is on offer by any of these nodes.
fn answer(challenges: &[&Arc<Challenges>]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OnOffer(challenges.iter().copied().cloned().collect())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = Arc::new(tls);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(Arc::clone(&tls)).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        }
    });
    port
}

struct Node {
    _acme: Acme,
    installed: Arc<Mutex<Vec<Issued>>>,
    metrics: Arc<AcmeMetrics>,
}

impl Node {
    fn start(authority: &TestAuthority, challenges: &Arc<Challenges>, storage: &Path) -> Self {
        let config = AcmeConfig {
            agree_to_terms: true,
            directory: authority.url(),
            storage: storage.to_owned(),
            ca: Some(authority.ca_file()),
            retry: Period::from_millis(500),
            ..AcmeConfig::default()
        };
        let names = Names::new(&["a.test".to_owned(), "b.test".to_owned()]).unwrap();
        let installed = Arc::<Mutex<Vec<Issued>>>::default();
        let (into, metrics) = (Arc::clone(&installed), Arc::<AcmeMetrics>::default());
        let install = Arc::new(move |issued: &Issued| into.lock().unwrap().push(issued.clone()));
        let (challenges, counted) = (Arc::clone(challenges), Arc::clone(&metrics));
        let acme = Acme::keep(config, vec![(names, install)], challenges, counted).unwrap();
        Self { _acme: acme, installed, metrics }
    }

    /// The certificate that was installed as number `count`.
    fn certificate(&self, count: usize) -> Issued {
        until("a certificate is installed", || self.installed.lock().unwrap().get(count).cloned())
    }
}

#[test]
fn nodes_with_one_storage_order_once_and_a_restart_does_not_order() {
    let [challenges, of_other] = [(); 2].map(|()| Arc::<Challenges>::default());
    // Whichever orders offers its answer at once; the other one may be held up.
    let authority = TestAuthority::start(0, answer(&[&challenges, &of_other]));
    let storage = tempfile::tempdir().unwrap();
    let one = Node::start(&authority, &challenges, storage.path());
    let other = Node::start(&authority, &of_other, storage.path());
    assert!(one.certificate(0).is(&other.certificate(0)));
    let orders = [&one, &other].map(|it| it.metrics.value(OrderResult::Issued));
    assert_eq!(orders.iter().sum::<u64>(), 1);
    assert_eq!(authority.orders(), 1);
    drop(one);
    let again = Node::start(&authority, &challenges, storage.path());
    assert!(again.certificate(0).is(&other.certificate(0)));
    assert_eq!((authority.orders(), authority.accounts()), (1, 1));
}

#[test]
fn a_renewal_has_a_key_of_its_own_and_the_account_of_the_first_order() {
    let challenges = Arc::<Challenges>::default();
    let authority = TestAuthority::start(0, answer(&[&challenges]));
    authority.change(|mood| {
        (mood.backdated, mood.lifetime) = (Duration::from_secs(12), Duration::from_secs(8));
    });
    let storage = tempfile::tempdir().unwrap();
    let node = Node::start(&authority, &challenges, storage.path());
    node.certificate(1);
    assert!(authority.orders() >= 2);
    // The next renewal may come between the two looks.
    until("each certificate has a key of its own", || {
        (authority.keys().len() == authority.issued()).then_some(())
    });
    assert_eq!(authority.accounts(), 1);
}
