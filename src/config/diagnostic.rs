//! What is wrong with a text, and how that is shown: to a person with the place in the text, to a
//! program as JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::tree::{Span, boundary};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// What is wrong, with the names that it is about.
    pub message: String,
    /// Where; `None` when it is about what the text does not have.
    pub at: Option<Label>,
    /// Other places that have a part in it.
    pub also: Vec<Label>,
    /// What would be right.
    pub help: Vec<String>,
}

/// Whether a text with this in it can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A place in the text, and what is said beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// A text, and what was found in it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the file, as the user gave it.
    pub name: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

/// A diagnostic for programs: one JSON object.
#[derive(Debug, Serialize)]
pub struct Record<'r> {
    pub severity: Severity,
    pub message: &'r str,
    pub file: &'r str,
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    pub end_line: Option<usize>,
    pub end_column: Option<usize>,
    /// What would be right; a line for each piece of advice.
    pub help: Option<String>,
}

impl<'r> Record<'r> {
    /// For a file that has no text.
    pub fn of_file(file: &'r str, message: &'r str) -> Self {
        let (line, column, end_line, end_column) = (None, None, None, None);
        let severity = Severity::Error;
        Self { severity, message, file, line, column, end_line, end_column, help: None }
    }
}

impl Diagnostic {
    pub fn error(message: impl AsRef<str>) -> Self {
        Self::new(Severity::Error, message.as_ref())
    }

    pub fn warning(message: impl AsRef<str>) -> Self {
        Self::new(Severity::Warning, message.as_ref())
    }

    fn new(severity: Severity, message: &str) -> Self {
        Self { severity, message: printable(message), at: None, also: Vec::new(), help: Vec::new() }
    }

    /// The place that the caret is under, and what is said beside it.
    pub fn at(mut self, span: Span, text: impl AsRef<str>) -> Self {
        self.at = Some(Label { span, text: printable(text.as_ref()) });
        self
    }

    pub fn also(mut self, span: Span, text: impl AsRef<str>) -> Self {
        self.also.push(Label { span, text: printable(text.as_ref()) });
        self
    }

    pub fn help(mut self, help: impl AsRef<str>) -> Self {
        self.help.push(printable(help.as_ref()));
        self
    }
}

/// Nobody reads more; the last line says how many there are.
const SHOWN_MAX: usize = 200;

/// What a file says goes to a terminal: nothing in it may move the cursor.
fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

impl Report {
    /// In the order of the text, each finding once.
    pub fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        let start = |it: &Diagnostic| it.at.as_ref().map_or(usize::MAX, |at| at.span.start);
        diagnostics.sort_by_key(start);
        diagnostics.dedup();
        Self { name: name.to_owned(), text: text.to_owned(), diagnostics }
    }

    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// Shows all findings, if there are any, on standard error.
    pub fn print(&self) {
        if !self.is_empty() {
            let mut stderr = io::stderr();
            // Nobody is left to tell that nobody listens.
            let _ = write!(stderr, "{}", self.render(Paint::of(&stderr)));
        }
    }

    /// All findings with the lines that they are about, for a terminal or, plain, for anything.
    pub fn render(&self, paint: Paint) -> String {
        let renderer = match paint {
            Paint::Plain => Renderer::plain(),
            Paint::Colour => Renderer::styled(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut rendered = String::new();
        for diagnostic in self.diagnostics.iter().take(SHOWN_MAX) {
            rendered.push_str(&renderer.render(&[self.group(diagnostic)]));
            rendered.push_str("\n\n");
        }
        rendered.push_str(&self.totals());
        rendered.push('\n');
        rendered
    }

    /// All findings for programs.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.diagnostics.iter().take(SHOWN_MAX).map(|diagnostic| self.record(diagnostic))
    }

    fn group<'r>(&'r self, diagnostic: &'r Diagnostic) -> Group<'r> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&diagnostic.message);
        let group = match &diagnostic.at {
            None => title.element(Origin::path(&self.name)),
            Some(at) => {
                let annotation = |kind: AnnotationKind, label: &'r Label| {
                    kind.span(self.visible(&label.span)).label(&label.text)
                };
                let also = diagnostic.also.iter();
                title.element(
                    Snippet::source(&self.text)
                        .path(&self.name)
                        .annotation(annotation(AnnotationKind::Primary, at))
                        .annotations(also.map(|it| annotation(AnnotationKind::Context, it))),
                )
            }
        };
        group.elements(diagnostic.help.iter().map(|help| Level::HELP.message(help)))
    }

    /// The part of the span that is on its first line: a table over ten lines is not underlined
    /// ten times.
    fn visible(&self, span: &Span) -> Span {
        let start = boundary(&self.text, span.start);
        let end = boundary(&self.text, span.end).max(start);
        let line = self.text[start..end].lines().next().unwrap_or_default();
        start..start + line.len()
    }

    fn record<'r>(&'r self, diagnostic: &'r Diagnostic) -> Record<'r> {
        let at = diagnostic.at.as_ref();
        let start = at.map(|at| self.position(at.span.start));
        let end = at.map(|at| self.position(at.span.end));
        let label = at.map(|at| at.text.as_str()).filter(|text| !text.is_empty());
        let help: Vec<&str> =
            label.into_iter().chain(diagnostic.help.iter().map(String::as_str)).collect();
        Record {
            severity: diagnostic.severity,
            message: &diagnostic.message,
            file: &self.name,
            line: start.map(|(line, _)| line),
            column: start.map(|(_, column)| column),
            end_line: end.map(|(line, _)| line),
            end_column: end.map(|(_, column)| column),
            help: (!help.is_empty()).then(|| help.join("\n")),
        }
    }

    /// Line and column of a byte, from 1.
    fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..boundary(&self.text, byte)];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[line_start..].chars().count() + 1)
    }

    /// `edge.toml: 2 errors, 1 warning`.
    fn totals(&self) -> String {
        let plural = |count: usize, noun: &str| match count {
            0 => None,
            1 => Some(format!("1 {noun}")),
            count => Some(format!("{count} {noun}s")),
        };
        let errors = plural(self.count(Severity::Error), "error");
        let warnings = plural(self.count(Severity::Warning), "warning");
        let counts: Vec<String> = errors.into_iter().chain(warnings).collect();
        let more = match self.diagnostics.len() {
            0..=SHOWN_MAX => String::new(),
            _ => format!("; the first {SHOWN_MAX} are shown"),
        };
        format!("{}: {}{more}", self.name, counts.join(", "))
    }
}

/// Whether what is printed has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colour,
}

impl Paint {
    /// Colours only where a person sees them, and has not asked for none (no-color.org).
    pub fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_plain = !stream.is_terminal() || is_set("NO_COLOR") || is_dumb;
        if is_plain { Self::Plain } else { Self::Colour }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(Paint::Plain).trim_end())
    }
}

impl std::error::Error for Report {}
