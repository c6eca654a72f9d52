//! Texts with names in braces: that the names stand for something.

use tidewire_edge::path::PathPattern;
use tidewire_edge::rules::template::{Known, Template};

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::suggest::{list, nearest};

/// What the captures in a template come from.
#[derive(Clone, Copy)]
pub(super) struct Capturing<'c> {
    pub patterns: &'c [PathPattern],
    /// Where the patterns are written, or would be.
    pub path: Place<'c>,
    /// Whether all is known about them.
    pub is_whole: bool,
}

impl Capturing<'_> {
    /// Whether each of the patterns captures it.
    fn has(&self, name: &str) -> bool {
        let captures = |pattern: &PathPattern| match name {
            "*" => pattern.has_star(),
            _ => pattern.names().any(|known| known == name),
        };
        !self.patterns.is_empty() && self.patterns.iter().all(captures)
    }
}

impl Checks<'_> {
    /// The template that is written at `place`. `None` comes with an error.
    pub(super) fn template(
        &mut self,
        text: &str,
        capturing: Capturing<'_>,
        place: Place<'_>,
    ) -> Option<Template> {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                let finding = Diagnostic::error(error.to_string());
                let finding = finding.at(place.span(), "expected such as \"{host}\"");
                self.report(finding.help("a brace itself is written twice: `{{`, `}}`"));
                return None;
            }
        };
        let unknown = template.captures().find(|name| !capturing.has(name)).map(str::to_owned);
        if let Some(name) = unknown.filter(|_| capturing.is_whole && place.is_given()) {
            self.unknown_name(&name, capturing, place);
        }
        Some(template)
    }

    fn unknown_name(&mut self, name: &str, capturing: Capturing<'_>, place: Place<'_>) {
        let message = match place.is_from_environment() {
            true => format!("`{}` has a name that stands for nothing", place.shown()),
            false => format!("`{{{name}}}` stands for nothing"),
        };
        let captured: Vec<&str> = capturing.patterns.iter().flat_map(PathPattern::names).collect();
        let known = Known::ALL.map(Known::as_str);
        let finding = Diagnostic::error(message);
        let meant = nearest(name, known.into_iter().chain(captured.iter().copied()));
        let finding = match meant.filter(|_| !place.is_from_environment()) {
            Some(meant) if meant != name => {
                finding.at(place.span(), format!("did you mean `{{{meant}}}`?"))
            }
            _ => finding.at(place.span(), "used here"),
        };
        let finding = if !capturing.path.is_given() {
            finding
        } else if name == "*" {
            finding.also(capturing.path.span(), "not every one of these ends in `*`")
        } else {
            finding.also(capturing.path.span(), "not every one of these captures it")
        };
        let names = list(known.map(|name| format!("{{{name}}}")));
        self.report(finding.help(format!("of every request there are {names}")));
    }
}
