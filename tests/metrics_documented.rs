//! docs/metrics.md names every metric that the program exposes, and none that it does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidewire_testkit::child::Child;
use tidewire_testkit::http::get;
use tidewire_testkit::tidewire::{Tidewire, command};

#[test]
fn the_metrics_page_has_every_metric_with_its_type_and_labels() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let documented = documented(&fs::read_to_string(page).unwrap());
    let mut exposed = exposed_by(&scrape());
    exposed.extend(exposed_by(&scrape_auth()).into_iter().filter(|(name, _)| {
        // The others are those of `up`, some of them without a value yet.
        name.starts_with("auth_")
            || name.starts_with("edge_auth_")
            || name.starts_with("edge_discovery_")
            || name.starts_with("edge_ping")
            || name.starts_with("edge_pong")
            || name.starts_with("edge_rule_")
            || name.starts_with("edge_server_tls_")
    }));
    assert_eq!(exposed, documented, "left is exposed, right is docs/metrics.md");
}

/// By name: type and labels.
type Metrics = BTreeMap<String, (String, String)>;

/// The metrics of `up`, which has an edge, hub nodes and a broker, once a connection has ended: for
/// want of TLS, so that failed handshakes have a value.
fn scrape() -> String {
    let mut up = command();
    let state = tempfile::tempdir().unwrap();
    up.args(["up", "--tls", "--listen", "127.0.0.1:0"]).env("XDG_STATE_HOME", state.path());
    let mut up = Child::spawn(up);
    let mut address_of = |what: &str, path: &str| {
        up.line(&format!("it says where the {what} is"), |line| {
            let url = line.trim().strip_prefix(what)?.trim();
            url.split_once("://")?.1.strip_suffix(path)?.parse().ok()
        })
    };
    let (page, admin) = (address_of("page", "/"), address_of("metrics", "/metrics"));
    get(page, "/").expect(400);
    // A family that has no value yet shows no labels either.
    tidewire_testkit::deadline::until("an end is counted, and why", || {
        let text = get(admin, "/metrics").expect(200).text();
        let counted = ["edge_ends_total{", "edge_tls_handshake_failures_total{"];
        counted.iter().all(|series| text.contains(series)).then_some(text)
    })
}

/// The metrics of an edge that has a rule, pings, looks for servers, and has fetched a key set from
/// another that answers with it, and does not speak the TLS that its servers are to speak.
fn scrape_auth() -> String {
    let listen = "[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\n[[route]]\n";
    let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let issuer = Tidewire::run(&format!("{listen}respond = {{ status = 200, body = '{keys}' }}\n"));
    let auth =
        format!("[[auth]]\nname = 'users'\njwt = {{ jwks = 'http://{}/' }}\n", issuer.address());
    let rule = "[[rule]]\nthen.response_header.set.X-A = '1'\n";
    let found = format!(
        "[[backend]]\nname = 'nodes'\ndiscovery = {{ dns = 'localhost:1' }}\n\
         server = [{{ name = 'plain', address = '{}' }}]\ntls = {{ insecure = true }}\n",
        issuer.address()
    );
    let pinged = "path = '/ws'\nbackend = 'nodes'\nping.client = '25s'\n\n[[route]]\n";
    let respond = "respond = { status = 204 }\n";
    let edge = Tidewire::run(&[listen, pinged, respond, &auth, rule, &found].concat());
    tidewire_testkit::deadline::until("the key set is fetched, and TLS has failed", || {
        // Whichever of the two it tries first.
        assert!(get(edge.address(), "/ws").status >= 500);
        let text = edge.metrics();
        let counted = ["auth_jwks_age_seconds{", "edge_server_tls_failures_total{"];
        counted.iter().all(|series| text.contains(series)).then_some(text)
    })
}

/// What an exposition says: a counter's name gets its `_total`, as in queries.
fn exposed_by(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and its type");
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("{name}{suffix}");
        let series = format!("{name}{{");
        let values = text.lines().find_map(|line| line.strip_prefix(&series));
        let labels = values.and_then(|line| line.split_once('}')).map_or("", |it| it.0);
        let names: Vec<&str> =
            labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)).collect();
        metrics.insert(name, (kind.to_owned(), names.join(", ")));
    }
    metrics
}

/// The rows of the page's tables that are name, type, labels and meaning.
fn documented(page: &str) -> Metrics {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [name, kind, labels, ..] = cells.as_slice() else { return None };
        let name = name.strip_suffix('`')?;
        if !["counter", "gauge"].contains(kind) {
            return None;
        }
        Some((name.to_owned(), ((*kind).to_owned(), labels.replace('`', ""))))
    };
    page.lines().filter_map(row).collect()
}
