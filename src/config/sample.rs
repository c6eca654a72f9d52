//! A value for each key that has no default: what the starting file and the reference show, what
//! messages suggest, and what stands in for one that is missing or wrong while the rest of a file
//! is checked.

use super::tree::{Node, Span, State, Step};

/// The sample for the key at the end of `path`, as it is written.
pub fn text(path: &[Step]) -> Option<&'static str> {
    let keys: Vec<&str> = path.iter().filter_map(Step::key).collect();
    let mut name = keys.join(".");
    let of_another = |name: &str| {
        SAME.iter().find_map(|(table, same)| {
            let keys = name.strip_prefix(table).filter(|keys| !keys.is_empty())?;
            Some(format!("{same}{keys}"))
        })
    };
    // A condition in a condition in a condition has the keys of the first.
    while let Some(same) = of_another(&name) {
        name = same;
    }
    SAMPLES.iter().find(|(path, _)| *path == name).map(|(_, text)| *text)
}

/// The sample as a value that stands in for another at `span`.
pub fn node(path: &[Step], span: Span) -> Option<Node> {
    let line = format!("sample = {}", text(path)?);
    let (tree, _) = Node::parse(&line);
    let mut node = tree.entry("sample")?.node.clone();
    node.span = span;
    node.state = State::Replaced;
    Some(node)
}

/// The table that the one called `name` has its keys from, if it is not the first of its kind.
pub fn same_as(name: &str) -> Option<&'static str> {
    SAME.iter().find(|(table, _)| *table == name).map(|(_, same)| *same)
}

/// Tables whose keys are those of another one.
const SAME: &[(&str, &str)] = &[
    ("route.limits", "limits"),
    ("rule.when.any", "rule.when"),
    ("rule.when.all", "rule.when"),
    ("rule.when.not", "rule.when"),
    ("rule.then.redirect", "route.redirect"),
    ("rule.then.response_header", "rule.then.request_header"),
    ("route.request_header", "rule.then.request_header"),
    ("route.response_header", "rule.then.request_header"),
];

/// By the keys on the way, joined.
const SAMPLES: &[(&str, &str)] = &[
    ("workers", "4"),
    ("listen.name", r#""public""#),
    ("listen.bind", r#""0.0.0.0:8080""#),
    ("listen.https_redirect", "443"),
    ("listen.tls", r#"{ certificate = [{ cert = "chain.pem", key = "key.pem" }] }"#),
    ("listen.unix.user", r#""tidewire""#),
    ("listen.unix.group", r#""www-data""#),
    ("listen.proxy_protocol", r#"{ from = "10.0.0.0/8" }"#),
    ("listen.proxy_protocol.from", r#"["10.0.0.0/8", "unix"]"#),
    ("listen.trusted_proxies", r#"{ from = "10.0.0.0/8" }"#),
    ("listen.trusted_proxies.from", r#"["10.0.0.0/8", "unix"]"#),
    ("listen.allow", r#"["10.0.0.0/8", "2001:db8::/32"]"#),
    ("listen.deny", r#""192.0.2.7""#),
    ("listen.allow_file", r#""allowed.txt""#),
    ("listen.deny_file", r#""denied.txt""#),
    ("listen.limits.profile", r#""strict""#),
    ("listen.limits.max_known", "100000"),
    ("listen.limits.per_address.connections", "200"),
    ("listen.limits.per_address.handshakes", "100"),
    ("listen.limits.per_address.rate", r#""50/s""#),
    ("listen.limits.per_address.burst", "200"),
    ("listen.limits.per_address.wait", r#""1s""#),
    ("listen.limits.total.connections", "50000"),
    ("listen.limits.total.handshakes", "5000"),
    ("listen.limits.total.rate", r#""1000/s""#),
    ("listen.limits.total.burst", "2000"),
    ("listen.limits.total.wait", r#""5s""#),
    ("listen.tls.certificate", r#"[{ cert = "chain.pem", key = "key.pem" }]"#),
    ("listen.tls.certificate.cert", r#""chain.pem""#),
    ("listen.tls.certificate.key", r#""key.pem""#),
    ("listen.tls.certificate.ocsp", r#""staple.der""#),
    ("listen.tls.client_cert", r#"{ mode = "required", ca = "ca.pem" }"#),
    ("listen.tls.client_cert.ca", r#""ca.pem""#),
    ("listen.tls.hsts", r#"{ max_age = "365d" }"#),
    ("route.name", r#""chat""#),
    ("route.listen", r#""public""#),
    ("route.host", r#"["example.com", "*.example.com"]"#),
    ("rule.name", r#""no-admin""#),
    ("rule.when", r#"{ path = "/admin/*", not = { address = "10.0.0.0/8" } }"#),
    ("rule.when.listen", r#""public""#),
    ("rule.when.host", r#"["example.com", "*.example.com"]"#),
    ("rule.when.path", r#"["/ws", "/ws/*"]"#),
    ("rule.when.method", r#"["POST", "PUT"]"#),
    ("rule.when.address", r#"["10.0.0.0/8", "2001:db8::/32"]"#),
    ("rule.when.tls", "false"),
    ("rule.when.websocket", "true"),
    ("rule.when.subprotocol", r#"["mqtt", "graphql-*"]"#),
    ("rule.when.not", r#"{ address = "10.0.0.0/8" }"#),
    ("rule.then", "{ deny = 403 }"),
    ("rule.then.deny", "403"),
    ("rule.then.body", r#""Not from here.""#),
    ("rule.then.redirect", r#"{ to = "https://{host}/new/{*}", status = 302 }"#),
    ("rule.then.route", r#""canary""#),
    ("rule.then.rewrite", r#""/v2/{*}""#),
    ("route.rewrite", r#""/{*}""#),
    ("route.request_header", r#"{ set = { X-Client = "{client.address}" } }"#),
    ("route.response_header", r#"{ remove = ["Server"] }"#),
    ("route.method", r#"["GET", "HEAD"]"#),
    ("route.address", r#"["10.0.0.0/8", "2001:db8::/32"]"#),
    ("route.tls", "true"),
    ("route.subprotocol", r#"["mqtt", "graphql-*"]"#),
    ("route.websocket", "true"),
    ("route.allow", r#"["10.0.0.0/8", "2001:db8::/32"]"#),
    ("route.deny", r#""192.0.2.7""#),
    ("route.allow_file", r#""allowed.txt""#),
    ("route.deny_file", r#""denied.txt""#),
    ("route.auth", r#""users""#),
    ("route.claims", r#"{ role = ["admin", "staff"] }"#),
    ("limits.profile", r#""strict""#),
    ("limits.max_body", r#""1MiB""#),
    ("limits.min_body_rate", r#""240B""#),
    ("limits.compression", r#""refuse""#),
    ("limits.lifetime", r#""24h""#),
    ("limits.stall", r#""30s""#),
    ("limits.client.framing", r#""strict""#),
    ("limits.client.max_frame", r#""64KiB""#),
    ("limits.client.max_message", r#""64KiB""#),
    ("limits.client.max_fragments", "1024"),
    ("limits.client.opcodes", r#"["text"]"#),
    ("limits.client.messages", r#""100/s""#),
    ("limits.client.bytes", r#""1MiB/s""#),
    ("limits.client.control", r#""20/s""#),
    ("limits.client.over_rate", r#""close""#),
    ("limits.server.framing", r#""strict""#),
    ("limits.server.max_frame", r#""16MiB""#),
    ("limits.server.max_message", r#""16MiB""#),
    ("limits.server.max_fragments", "1024"),
    ("limits.server.opcodes", r#"["text"]"#),
    ("limits.server.messages", r#""1000/s""#),
    ("limits.server.bytes", r#""16MiB/s""#),
    ("limits.server.control", r#""100/s""#),
    ("limits.server.over_rate", r#""slow""#),
    ("limits.per_address.connections", "100"),
    ("limits.per_address.handshakes", "50"),
    ("limits.per_address.rate", r#""10/s""#),
    ("limits.per_address.burst", "100"),
    ("limits.per_address.wait", r#""1s""#),
    ("limits.per_address.requests", r#""100/s""#),
    ("limits.per_identity.connections", "5"),
    ("limits.per_identity.handshakes", "5"),
    ("limits.per_identity.rate", r#""10/m""#),
    ("limits.per_identity.burst", "10"),
    ("limits.per_identity.wait", r#""1s""#),
    ("limits.per_identity.requests", r#""50/s""#),
    ("limits.total.connections", "10000"),
    ("limits.total.handshakes", "1000"),
    ("limits.total.rate", r#""200/s""#),
    ("limits.total.burst", "500"),
    ("limits.total.wait", r#""30s""#),
    ("limits.total.requests", r#""5000/s""#),
    ("limits.max_known", "100000"),
    ("route.cors", "{ credentials = true }"),
    ("route.backend", r#""nodes""#),
    ("route.hub", r#"{ topic = "{topic}", reply = "Received: {message}" }"#),
    ("route.hub.topic", r#""{topic}""#),
    ("route.hub.subscribe", r#"["chat:{sub}:*", "public"]"#),
    ("route.hub.publish", r#"["chat:{sub}:*"]"#),
    ("route.hub.reply", r#""Received: {message}""#),
    ("route.static", r#"{ dir = "public" }"#),
    ("route.static.dir", r#""public""#),
    ("route.static.builtin", r#""demo""#),
    ("route.redirect", r#"{ to = "https://{host}{path}{query}" }"#),
    ("route.redirect.to", r#""https://{host}{path}{query}""#),
    ("route.respond", r#"{ status = 404, body = "Nothing is here." }"#),
    ("route.respond.status", "404"),
    ("backend.name", r#""nodes""#),
    ("backend.hash_balance_factor", "150"),
    ("backend.slowstart", r#""30s""#),
    ("backend.stick.insert", r#"{ cookie = "tidewire" }"#),
    ("backend.stick.insert.domain", r#""example.com""#),
    ("backend.stick.insert.max_age", r#""8h""#),
    ("backend.stick.prefix", r#"{ cookie = "JSESSIONID" }"#),
    ("backend.stick.prefix.cookie", r#""JSESSIONID""#),
    ("backend.stick.session", r#"{ query = "sid" }"#),
    ("backend.stick.session.query", r#""sid""#),
    ("backend.stick.session.field", r#""connectionToken""#),
    ("backend.stick.secret", r#""${STICK_SECRET}""#),
    ("backend.server", r#"[{ name = "server1", address = "10.0.0.2:3000" }]"#),
    ("backend.server.name", r#""server1""#),
    ("backend.server.address", r#""127.0.0.1:3000""#),
    ("backend.server.check", "true"),
    ("backend.discovery", r#"{ dns = "nodes.internal:3000" }"#),
    ("backend.discovery.dns", r#""nodes.internal:3000""#),
    ("backend.discovery.srv", r#""_ws._tcp.chat.internal""#),
    ("backend.discovery.file", r#""servers.toml""#),
    ("backend.server.check_address", r#""127.0.0.1:9090""#),
    ("backend.check.port", "9090"),
    ("backend.check.tls", "true"),
    ("backend.check.send_proxy", "true"),
    ("backend.send_proxy", r#""v2""#),
    ("backend.tls", r#"{ ca = "ca.pem" }"#),
    ("backend.tls.ca", r#""ca.pem""#),
    ("backend.tls.server_name", r#""nodes.internal""#),
    ("backend.tls.cert", r#""edge.pem""#),
    ("backend.tls.key", r#""edge.key""#),
    ("backend.server.server_name", r#""nodes.internal""#),
    ("backend.check.host", r#""example.com""#),
    ("backend.check.body", r#""ping""#),
    ("backend.check.expect", r#""ready""#),
    ("backend.check.expect_regex", r#""^status: (UP|BUSY)""#),
    ("backend.check.fast_interval", r#""500ms""#),
    ("backend.check.down_interval", r#""5s""#),
    ("backend.eject", r#"{ connect_errors = 5, base = "10s" }"#),
    ("backend.rebalance", r#"{ band = "2%", rate = "50/s" }"#),
    ("backend.timeout.connect", r#""1s""#),
    ("backend.timeout.server", r#""1m""#),
    ("backend.timeout.tunnel", r#""12h""#),
    ("backend.timeout.queue", r#""1s""#),
    ("backend.timeout.server_fin", r#""30s""#),
    ("auth.name", r#""users""#),
    ("auth.headers", r#"{ "X-User" = "{sub}" }"#),
    ("auth.forward", r#"{ backend = "login", path = "/verify" }"#),
    ("auth.forward.backend", r#""login""#),
    ("auth.forward.subject", r#""X-User""#),
    ("auth.forward.expires", r#""X-Auth-Expires""#),
    ("auth.forward.cache_key", r#"["Authorization", "Cookie"]"#),
    ("auth.jwt", r#"{ key = "issuer.pem", audience = ["chat"] }"#),
    ("auth.jwt.secret", r#""${TOKEN_SECRET}""#),
    ("auth.jwt.secret_file", r#""token.secret""#),
    ("auth.jwt.key", r#""issuer.pem""#),
    ("auth.jwt.jwks", r#""https://login.example.com/.well-known/jwks.json""#),
    ("auth.jwt.typ", r#""at+jwt""#),
    ("auth.jwt.ca", r#""ca.pem""#),
    ("auth.api_key", r#"{ file = "keys" }"#),
    ("auth.api_key.file", r#""keys""#),
    ("auth.api_key.key", r#""${API_KEY}""#),
    ("auth.basic", r#"{ users = "users" }"#),
    ("auth.basic.users", r#""users""#),
    ("auth.client_cert", r#"{ subject = "san:dns" }"#),
    ("hub.node", r#""server1""#),
    ("revocation.file", r#""/var/lib/tidewire/revocations.json""#),
    ("admin.token", r#""${ADMIN_TOKEN}""#),
    ("admin.token_file", r#""/etc/tidewire/admin.token""#),
    ("acme.email", r#""admin@example.com""#),
    ("acme.ca", r#""authority.pem""#),
    ("acme.eab", r#"{ key_id = "kid-1", key_file = "eab.key" }"#),
    ("acme.eab.key_id", r#""kid-1""#),
    ("acme.eab.key_file", r#""eab.key""#),
    ("process.user", r#""tidewire""#),
    ("process.group", r#""tidewire""#),
    ("admin.bind", r#""127.0.0.1:9090""#),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::deserialize::{Fault, deserialize};
    use crate::config::schema::{Kind, Schema, Shape};
    use crate::config::tree::{Entry, Value};

    /// Every key that has no default, by the way to it.
    fn without_default(shape: Shape<'_>, path: &[Step], found: &mut Vec<Vec<Step>>) {
        let inner = shape.properties().filter(|(_, inner)| !inner.is_again(shape));
        for (key, shape) in inner {
            let mut path = [path, &[Step::Key(key.to_owned())]].concat();
            let is_listed_above = shape.kind() == Kind::Table && path.len() == 1;
            if shape.default().is_none() && !is_listed_above {
                found.push(path.clone());
            }
            match shape.kind() {
                Kind::Table => without_default(shape, &path, found),
                Kind::Tables => {
                    path.push(Step::Index(0));
                    without_default(shape.element().unwrap(), &path, found);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_key_without_a_default_has_a_sample_that_its_type_takes() {
        let schema = Schema::of_config();
        let mut paths = Vec::new();
        without_default(schema.root(), &[], &mut paths);
        for path in paths {
            let node = node(&path, 0..0).unwrap_or_else(|| panic!("add a sample for {path:?}"));
            // The value alone in its tables: what else they lack is not the sample's fault.
            let tree = path.iter().rev().fold(node, |node, step| {
                let value = match step {
                    Step::Index(_) => Value::List(vec![node]),
                    Step::Key(key) => {
                        Value::Table(vec![Entry { key: key.clone(), key_span: 0..0, node }])
                    }
                };
                Node::new(0..0, value)
            });
            if let Err(refusal) = deserialize::<Config>(&tree) {
                assert!(matches!(refusal.fault, Fault::MissingKey(_)), "{path:?}: {refusal:?}");
            }
        }
    }
}
