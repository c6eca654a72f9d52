//! Rules: what is done about a request before a route is chosen for it.
//!
//! ```text
//!   rules, in their order ─┬─ deny, redirect ─> the answer
//!                          ├─ route ──────────> only this route may take it ─┐
//!                          └─ none decides ───> the first route that matches ─┴─> auth ─> target
//!   what those before have changed goes to the server, and into the answer
//! ```
//!
//! Rules and routes see the request as it came: nothing that a rule changes is matched by another.
//! To add an action: a variant of [`Decision`] (or a field of [`changes::Changes`]), its arm in
//! [`Rules::judge`], its key in the binary's `ThenConfig`, its check in `src/plan/rules.rs`.

pub mod changes;
pub mod condition;
pub mod template;
pub mod text_pattern;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use self::changes::{Changes, Made, Unwritable};
use self::condition::{Asked, Condition};
use self::template::{Known, Piece, Template};
use crate::answer::{self, Body};
use crate::path::{self, PathPattern, Reading};
use crate::redirect::keep_on_site;

/// The rules of a node, in their order.
#[derive(Debug, Default)]
pub struct Rules(pub Vec<Rule>);

/// What is done about requests for which its condition holds.
#[derive(Debug)]
pub struct Rule {
    /// Its name in logs and metrics.
    pub name: String,
    pub when: Condition,
    pub changes: Changes,
    /// Without one, the next rule is asked.
    pub decision: Option<Decision>,
    /// Whether it keeps requests from something, so that it holds in every spelling of a path.
    pub is_guard: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Deny(Deny),
    Redirect(Redirect),
    /// The route of this index may take it, and no other.
    Route(usize),
}

/// An answer that ends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deny {
    pub status: StatusCode,
    /// What is said; the edge's own words when there are none.
    pub body: Option<Bytes>,
}

/// Sends the client elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub status: StatusCode,
    pub to: Template,
}

/// What the rules say of a request.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Whoever has decided, if somebody has.
    pub rule: Option<u16>,
    /// The answer, when it is given here.
    pub answer: Option<Box<Response<Body>>>,
    /// The only route that may take it.
    pub route: Option<u16>,
    /// What is changed; `None` when nothing is.
    pub made: Option<Box<Made>>,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn name(&self, rule: Option<u16>) -> Option<&str> {
        self.0.get(usize::from(rule?)).map(|rule| &*rule.name)
    }

    /// Asks the rules in their order; `hit` hears of each that holds.
    pub fn judge(&self, asked: &Asked<'_>, mut hit: impl FnMut(usize)) -> Judgement {
        let mut judgement = Judgement::default();
        if self.0.is_empty() {
            return judgement;
        }
        let lenient = path::lenient(asked.uri.path());
        for (index, rule) in self.0.iter().enumerate().filter(|(_, it)| it.holds(asked, &lenient)) {
            hit(index);
            if !rule.changes.is_nothing() {
                let made = judgement.made.get_or_insert_default();
                if let Err(wrong) = rule.changes.make(asked, &rule.when.paths, made) {
                    judgement.answer = Some(Box::new(wrong.answer()));
                    judgement.rule = Some(index as u16);
                    break;
                }
            }
            let Some(decision) = &rule.decision else { continue };
            judgement.rule = Some(index as u16);
            let answer = match decision {
                Decision::Deny(deny) => deny.answer(),
                Decision::Redirect(redirect) => redirect.answer(asked, &rule.when.paths),
                Decision::Route(route) => {
                    judgement.route = Some(*route as u16);
                    break;
                }
            };
            judgement.answer = Some(Box::new(answer));
            break;
        }
        judgement
    }
}

impl Rule {
    fn holds(&self, asked: &Asked<'_>, lenient: &[String]) -> bool {
        // The whole condition for each reading: of what is not below `/public/`, some reading of
        // `/public/..%2fadmin` is one.
        self.when.holds(asked, Reading::Written(asked.uri.path()))
            || self.is_guard
                && lenient.iter().any(|path| self.when.holds(asked, Reading::Decoded(path)))
    }

    /// What it does, as metrics say it.
    pub fn action(&self) -> &'static str {
        match self.decision {
            Some(Decision::Deny(_)) => "deny",
            Some(Decision::Redirect(_)) => "redirect",
            Some(Decision::Route(_)) => "route",
            None => "change",
        }
    }
}

impl Judgement {
    /// Adds what the route changes that takes the request.
    pub fn change(
        &mut self,
        changes: &Changes,
        asked: &Asked<'_>,
        pattern: &PathPattern,
    ) -> Result<(), Unwritable> {
        if changes.is_nothing() {
            return Ok(());
        }
        let made = self.made.get_or_insert_default();
        changes.make(asked, std::slice::from_ref(pattern), made)
    }

    /// Changes an answer, whoever has given it.
    pub fn change_response(&self, headers: &mut HeaderMap) {
        if let Some(made) = &self.made {
            made.change_response(headers);
        }
    }
}

impl Deny {
    fn answer(&self) -> Response<Body> {
        match &self.body {
            None => answer::text(self.status, "a rule of this site does not let it pass"),
            Some(body) => {
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                answer::with_type(self.status, body.clone(), text)
            }
        }
    }
}

impl Redirect {
    fn answer(&self, asked: &Asked<'_>, patterns: &[PathPattern]) -> Response<Body> {
        let mut to = self.to.fill(asked, patterns).unwrap_or_default();
        if self.is_path() {
            keep_on_site(&mut to);
        }
        let Ok(location) = HeaderValue::from_str(&to) else {
            return answer::text(StatusCode::BAD_REQUEST, "the request cannot be redirected");
        };
        let mut response = answer::text(self.status, format_args!("see {to}"));
        response.headers_mut().insert(header::LOCATION, location);
        response
    }

    /// Whether it stays on this site.
    fn is_path(&self) -> bool {
        match self.to.pieces().first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Known(known)) => *known == Known::Path,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
