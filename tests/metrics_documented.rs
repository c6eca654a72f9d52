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
    let mut found = exposed(&scrape());
    found.extend(
        exposed(&scrape_with_auth()).into_iter().filter(|(_, (_, labels))| !labels.is_empty()),
    );
    assert_eq!(found, documented, "left is exposed, right is docs/metrics.md");
}

/// By name: type and labels.
type Metrics = BTreeMap<String, (String, String)>;

/// The metrics of `up`, which has an edge, hub nodes and a broker, once a connection has ended.
fn scrape() -> String {
    let mut up = command();
    up.args(["up", "--listen", "127.0.0.1:0"]);
    let mut up = Child::spawn(up);
    let mut address_of = |what: &str, path: &str| {
        up.line(&format!("it says where the {what} is"), |line| {
            let url = line.trim().strip_prefix(what)?.trim();
            url.strip_prefix("http://")?.strip_suffix(path)?.parse().ok()
        })
    };
    let (page, admin) = (address_of("page", "/"), address_of("metrics", "/metrics"));
    get(page, "/").expect(200);
    // A family that has no value yet shows no labels either.
    tidewire_testkit::deadline::until("an end is counted", || {
        let text = get(admin, "/metrics").expect(200).text();
        text.contains("edge_ends_total{").then_some(text)
    })
}

/// The metrics of a node that asks who its clients are.
fn scrape_with_auth() -> String {
    Tidewire::run(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[auth]]
name = "users"
jwt = { secret = "a secret of thirty-two bytes, ok" }
[[route]]
auth = "users"
respond = { status = 200 }
"#,
    )
    .metrics()
}

/// What an exposition says: a counter's name gets its `_total`, as in queries.
fn exposed(text: &str) -> Metrics {
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
