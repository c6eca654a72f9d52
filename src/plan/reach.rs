//! Routes that never match, because an earlier one takes all that they would, and rules that are
//! never asked.

use tidewire_edge::auth::access::Access;
use tidewire_edge::route::Matcher;
use tidewire_edge::rules::{Decision, Rule};

use super::covering::{covers, covers_path, paths_meet};
use super::{Checks, RoutePlan};
use crate::config::diagnostic::Diagnostic;

impl Checks<'_> {
    /// Warns of each rule that is never asked: one before it decides about all that it is for.
    pub(super) fn reach_of_rules(&mut self, rules: &[Rule]) {
        for (index, rule) in rules.iter().enumerate() {
            let decides =
                |first: &&Rule| first.decision.is_some() && covers(&first.when, &rule.when);
            let Some(first) = rules[..index].iter().position(|it| decides(&it)) else { continue };
            let place = |index| {
                let rule = self.place.key("rule").index(index);
                let when = rule.key("when");
                if when.is_given() { when } else { rule }
            };
            let finding = Diagnostic::warning("this rule is never asked: an earlier one decides");
            let finding = finding.at(place(index).span(), "never reached");
            let finding = finding.also(place(first).span(), "decides about all of them");
            self.report(finding.help("rules are asked in their order: put it above"));
        }
    }

    /// Warns of each rule that leads to a route that never takes what the rule is for.
    pub(super) fn ways_of_rules(&mut self, rules: &[Rule], routes: &[RoutePlan]) {
        for (index, rule) in rules.iter().enumerate() {
            let Some(Decision::Route(to)) = rule.decision else { continue };
            let Some(route) = routes.get(to) else { continue };
            let meets = |path| paths_meet(path, &route.matcher.path);
            if rule.when.paths.is_empty() || rule.when.paths.iter().any(meets) {
                continue;
            }
            let way = self.place.key("rule").index(index).key("then").key("route");
            let path = self.place.key("route").index(to).key("path");
            if way.is_given() && path.is_given() {
                let message = "this rule leads to a route that is for other paths";
                let finding =
                    Diagnostic::warning(message).at(way.span(), "404 answers all of them");
                let finding = finding.also(path.span(), "has none of the rule's `path`");
                let help = "a rule changes no path that routes are asked for: widen the route's";
                self.report(finding.help(help));
            }
        }
    }

    /// Warns of each route that no request reaches. The routes are all that the text has; `named`
    /// are those that rules lead to.
    pub(super) fn reach(&mut self, routes: &[RoutePlan], named: &[usize]) {
        let scopes: Vec<Scope<'_>> = routes.iter().map(Scope::of).collect();
        for (index, scope) in scopes.iter().enumerate().filter(|(index, _)| !named.contains(index))
        {
            // An open route is passed over for those whom one before it has refused: they may come
            // to a later one that asks.
            let covers = |&first: &usize| {
                let is_passed_over = scopes[first].access.is_none()
                    && scope.access.is_some()
                    && scopes[..first].iter().any(Scope::can_refuse);
                scopes[first].covers(scope) && !is_passed_over
            };
            let Some(first) = (0..index).find(covers) else { continue };
            let place = |index| {
                let route = self.place.key("route").index(index);
                let path = route.key("path");
                if path.is_given() { path } else { route }
            };
            let finding = Diagnostic::warning("this route takes no request: an earlier one does");
            let finding = finding
                .at(place(index).span(), "never reached")
                .also(place(first).span(), "takes all of them");
            let is_kept = scopes[first].can_refuse() && scope.access.is_none();
            self.report(finding.help(if is_kept {
                "whom a route with `auth` refuses is for none without; `auth = []` takes everybody"
            } else {
                "the first route that matches is taken: put it above"
            }));
        }
    }
}

/// The requests that a route takes if no other does.
struct Scope<'r> {
    matcher: &'r Matcher,
    access: Option<&'r Access>,
}

impl<'r> Scope<'r> {
    fn of(route: &'r RoutePlan) -> Self {
        Self { matcher: &route.matcher, access: route.access.as_ref() }
    }

    /// Whether there are clients that it does not take.
    fn can_refuse(&self) -> bool {
        self.access.is_some_and(|access| !access.auths.is_empty())
    }

    /// Whether `other` gets no client of a request that both match.
    fn lets_in(&self, other: &Self) -> bool {
        match (self.access.filter(|_| self.can_refuse()), other.access) {
            (None, _) | (Some(_), None) => true,
            (Some(this), Some(that)) => {
                this.auths == that.auths
                    && (this.satisfy == that.satisfy || this.auths.len() < 2)
                    && this.claims.iter().all(|claim| that.claims.contains(claim))
            }
        }
    }

    /// Whether all that `other` takes is in this one.
    fn covers(&self, other: &Self) -> bool {
        let (this, that) = (self.matcher, other.matcher);
        self.lets_in(other)
            && covers_path(&this.path, &that.path)
            && covers(&this.condition, &that.condition)
    }
}
