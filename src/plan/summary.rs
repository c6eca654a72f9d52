//! What a plan does, in a few lines.

use std::fmt;

use tidewire_edge::auth::access::Satisfy;
use tidewire_edge::health::ProbeKind;
use tidewire_edge::rules::condition::Condition;
use tidewire_edge::rules::{Decision, Rule};

use super::auth::AuthCheck;
use super::{BackendPlan, Plan, RoutePlan, TargetPlan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0);
        rows.iter().try_for_each(|(what, name, says)| {
            writeln!(f, "{}", format!("  {what:<9}{name:<width$}  {says}").trim_end())
        })
    }
}

type Row = (&'static str, String, String);

impl Plan {
    fn rows(&self) -> Vec<Row> {
        let listener = |it: &super::ListenerPlan| {
            let tls = if it.tls.is_some() { ", TLS" } else { "" };
            ("listen", it.name.clone(), format!("{}{tls}{}", join(&it.bind), it.https))
        };
        let listeners = self.listeners.iter().map(listener);
        let rules = self.rules.iter().map(|it| ("rule", it.name.clone(), self.rule(it)));
        let routes = self.routes.iter().map(|it| ("route", it.name.clone(), self.route(it)));
        let backends = self.backends.iter().map(backend);
        let auths =
            self.auths.iter().map(|it| ("auth", it.config.name.clone(), self.auth(&it.check)));
        let hub = self.hub.iter().map(|hub| ("hub", String::new(), hub.broker.to_string()));
        let admin = self.admin.iter().map(|it| ("admin", String::new(), it.bind.to_string()));
        let workers = [("workers", String::new(), self.workers.to_string())];
        listeners
            .chain(rules)
            .chain(routes)
            .chain(backends)
            .chain(auths)
            .chain(hub)
            .chain(admin)
            .chain(workers)
            .collect()
    }

    fn auth(&self, check: &AuthCheck) -> String {
        match check {
            AuthCheck::Method(method) => method.to_string(),
            AuthCheck::Forward { backend, .. } => {
                format!("forward to {}", self.backends[*backend].config.name)
            }
        }
    }

    /// What a rule asks for and what it does.
    fn rule(&self, rule: &Rule) -> String {
        let (request, response) = (&rule.changes.request, &rule.changes.response);
        let mut done = Vec::new();
        if rule.changes.rewrite.is_some() {
            done.push("rewrites the path".to_owned());
        }
        if !(request.is_nothing() && response.is_nothing()) {
            done.push("changes headers".to_owned());
        }
        done.extend(rule.decision.as_ref().map(|decision| match decision {
            Decision::Deny(deny) => format!("denies with {}", deny.status.as_u16()),
            Decision::Redirect(redirect) => format!("redirects with {}", redirect.status.as_u16()),
            Decision::Route(route) => format!("route {}", self.routes[*route].name),
        }));
        let conditions = self.condition(&rule.when);
        let of_all = if conditions.is_empty() { "every request" } else { "" };
        format!("{of_all}{} -> {}", conditions.join(", "), done.join(", "))
    }

    /// What a condition asks for. Values are not shown: they may be keys.
    fn condition(&self, condition: &Condition) -> Vec<String> {
        let mut all = Vec::new();
        if !condition.paths.is_empty() {
            all.push(join(&condition.paths));
        }
        if !condition.hosts.is_empty() {
            all.push(format!("on {}", join(&condition.hosts)));
        }
        if !condition.methods.is_empty() {
            all.push(join(&condition.methods));
        }
        all.extend(condition.headers.iter().map(|header| format!("with {}", header.name)));
        all.extend(condition.query.iter().map(|it| format!("with ?{}", it.name)));
        all.extend(condition.cookies.iter().map(|it| format!("with cookie {}", it.name)));
        if condition.addresses.is_some() {
            all.push("from some addresses".into());
        }
        if let Some(is_tls) = condition.tls {
            all.push(if is_tls { "by TLS" } else { "not by TLS" }.into());
        }
        if let Some(is_websocket) = condition.websocket {
            all.push(if is_websocket { "WebSocket only" } else { "not WebSocket" }.into());
        }
        if !condition.subprotocols.is_empty() {
            all.push(format!("offering {}", join(&condition.subprotocols)));
        }
        if let Some(listeners) = &condition.listeners {
            let names: Vec<_> = listeners.iter().map(|&i| &self.listeners[i].name).collect();
            all.push(format!("from {}", join(&names)));
        }
        let group = |of: &[Condition], joint: &str| {
            let of: Vec<String> = of.iter().map(|it| self.condition(it).join(", ")).collect();
            format!("({})", of.join(joint))
        };
        if !condition.any.is_empty() {
            all.push(group(&condition.any, " or "));
        }
        if !condition.all.is_empty() {
            all.push(group(&condition.all, " and "));
        }
        all.extend(
            condition.not.iter().map(|not| format!("not ({})", self.condition(not).join(", "))),
        );
        all
    }

    /// What a route asks for and where it leads. Values of headers are not shown: they may be keys.
    fn route(&self, route: &RoutePlan) -> String {
        let matcher = &route.matcher;
        let path = matcher.path.to_string();
        // A route without a name of its own is called by its path.
        let mut conditions = if path == route.name { Vec::new() } else { vec![path] };
        conditions.extend(self.condition(&matcher.condition));
        if let Some(access) = &route.access {
            let names: Vec<_> = access.auths.iter().map(|&i| &self.auths[i].config.name).collect();
            let joint = if access.satisfy == Satisfy::All { " and " } else { " or " };
            conditions.push(match names.as_slice() {
                [] => "for everybody".to_owned(),
                _ => format!(
                    "for {}",
                    names.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(joint)
                ),
            });
            conditions
                .extend(access.claims.iter().map(|claim| format!("with claim {}", claim.name)));
        }
        let target = match &route.target {
            TargetPlan::Backend(index) => format!("backend {}", self.backends[*index].config.name),
            TargetPlan::Hub(topic) => format!("hub topic {}", topic.topic),
            TargetPlan::Dir(dir) => format!("files of {}", dir.display()),
            TargetPlan::Page(page) => format!("page {page:?}").to_lowercase(),
            TargetPlan::Redirect(redirect) => format!("{} to {}", redirect.status, redirect.to),
            TargetPlan::Respond(respond) => format!("answer {}", respond.status),
        };
        format!("{} -> {target}", conditions.join(", ")).trim_start().to_owned()
    }
}

fn backend(backend: &BackendPlan) -> Row {
    let config = &backend.config;
    let listed = config.server.iter().map(|it| format!("{} {}", it.name, it.address));
    let servers: Vec<String> =
        listed.chain(backend.discovery.iter().map(ToString::to_string)).collect();
    let checked = config.server.iter().filter(|server| server.check).count();
    let kind = match config.check.kind {
        ProbeKind::Tcp => "tcp",
        ProbeKind::Http => "http",
        ProbeKind::Websocket => "websocket",
    };
    let checks = match checked {
        0 => "not checked".to_owned(),
        some if some == config.server.len() => {
            format!("{kind} check every {}", config.check.interval)
        }
        some => format!("{kind} check of {some} every {}", config.check.interval),
    };
    let algorithm = &config.balance;
    let by = match &config.tls {
        None => "",
        Some(tls) if tls.insecure => " by TLS with anybody",
        Some(_) => " by TLS",
    };
    let servers = servers.join(", ");
    ("backend", config.name.clone(), format!("{algorithm} over {servers}{by}; {checks}"))
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
