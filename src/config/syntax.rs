//! What is not TOML, in words: the parser's errors without those that follow from others.

use std::ops::RangeInclusive;

use toml::de::Error;

use super::diagnostic::{Diagnostic, Label};
use super::schema::{Kind, Schema};
use super::tree::{Node, Span, Value, boundary};

/// Adds the errors of the parser to `findings`, and takes out of them what follows from those: what
/// is made of a broken line is mostly wrong where the line is not.
pub fn report(
    errors: &[Error],
    text: &str,
    tree: &Node,
    schema: &Schema,
    findings: &mut Vec<Diagnostic>,
) {
    let lines = Lines::of(text);
    let span = |error: &Error| lines.across(&error.span().unwrap_or(0..text.len()));
    let broken: Vec<RangeInclusive<usize>> = errors.iter().take(ERRORS_MAX).map(span).collect();
    let is_near = |at: &Label| {
        let lines = lines.across(&at.span);
        broken.iter().any(|it| it.start() <= lines.end() && it.end() >= lines.start())
    };
    findings.retain(|finding| finding.at.as_ref().is_some_and(|at| !is_near(at)));
    let errors = errors.iter().take(ERRORS_MAX).map(|error| Fault::of(error, tree));
    let mut errors: Vec<Fault<'_>> = errors.collect();
    errors.sort_by_key(|fault| fault.span.start);
    // Up to here, errors follow from one that has been reported.
    let mut end = 0;
    for fault in errors {
        if fault.span.start >= end {
            end = fault.end_of_doubt(text);
            findings.push(fault.finding(text, schema));
        }
    }
}

/// A text with more errors is no configuration, and looking at all of them would take long.
const ERRORS_MAX: usize = 1000;

/// Where each line of a text begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(newlines.map(|(index, _)| index + 1)).collect())
    }

    /// The lines that `span` is on.
    fn across(&self, span: &Span) -> RangeInclusive<usize> {
        let line = |byte: usize| self.0.partition_point(|start| *start <= byte);
        line(span.start)..=line(span.end)
    }
}

/// An error of the parser and where it began.
struct Fault<'e> {
    message: &'e str,
    span: Span,
    /// The list or table that is not closed.
    unclosed: Option<Span>,
}

impl<'e> Fault<'e> {
    fn of(error: &'e Error, tree: &Node) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        let is_unclosed = ["unclosed array,", "unclosed inline table,"]
            .iter()
            .any(|start| message.starts_with(start));
        // The parser reports it where the text ends; it is wrong where it begins.
        let unclosed = is_unclosed.then(|| opened(tree, span.end)).flatten();
        let span = unclosed.as_ref().map_or(span, |whole| whole.start..whole.start + 1);
        Self { message, span, unclosed }
    }

    /// Where the part of the text ends in which errors follow from this one: the line, the list
    /// that is not closed, the table that is there twice.
    fn end_of_doubt(&self, text: &str) -> usize {
        if let Some(unclosed) = &self.unclosed {
            return unclosed.end + 1;
        }
        let after =
            |from: usize, mark| text[from..].find(mark).map_or(text.len() + 1, |it| from + it);
        let start = boundary(text, self.span.start);
        match self.is_header_twice(text) {
            true => after(start, "\n["),
            false => after(start, "\n"),
        }
    }

    fn is_header_twice(&self, text: &str) -> bool {
        self.message == "duplicate key" && text[..boundary(text, self.span.start)].ends_with('[')
    }

    fn finding(&self, text: &str, schema: &Schema) -> Diagnostic {
        let span = self.span.clone();
        let written = text.get(span.clone()).unwrap_or_default();
        if self.message == "duplicate key" {
            return self.twice(written, text, schema);
        }
        let (wrong, expected) =
            self.message.split_once(", expected ").unwrap_or((self.message, ""));
        let (wrong, label) = match (wrong, expected) {
            ("string values must be quoted" | "invalid boolean", _) if !written.is_empty() => {
                let finding = Diagnostic::error(format!("`{written}` is not a value"));
                return finding.at(span, format!("text is written in quotes: \"{written}\""));
            }
            ("string values must be quoted", _) => ("a value is missing", "expected one here"),
            ("unclosed array", _) => ("a list is not closed", "expected `]` after its last value"),
            ("unclosed inline table", _) => ("a table is not closed", "expected `}` after its end"),
            ("unclosed table", _) => ("the name of a table is not closed", "expected `]`"),
            ("unclosed array table", _) => ("the name of a table is not closed", "expected `]]`"),
            ("invalid basic string", "`\"`") => ("a string is not closed", "expected `\"`"),
            ("invalid literal string", "`'`") => ("a string is not closed", "expected `'`"),
            (wrong, "") => (wrong, ""),
            (wrong, expected) => {
                return Diagnostic::error(wrong).at(span, format!("expected {expected}"));
            }
        };
        Diagnostic::error(wrong).at(span, label)
    }

    /// A key or a table that is there already.
    fn twice(&self, key: &str, text: &str, schema: &Schema) -> Diagnostic {
        let finding = Diagnostic::error(format!("`{key}` is given twice"));
        let finding = finding.at(self.span.clone(), "the second time");
        let first = first_line_of(key, &text[..boundary(text, self.span.start)]);
        let finding =
            first.into_iter().fold(finding, |finding, span| finding.also(span, "the first time"));
        let kind = schema.root().property(key).map(|shape| shape.kind());
        match self.is_header_twice(text) && kind == Some(Kind::Tables) {
            true => finding.help(format!("there may be several: write each as `[[{key}]]`")),
            false => finding,
        }
    }
}

/// Where `key` is given in `before`, which ends where it is given again: as the header of a table,
/// or as a key of the table that `before` ends in.
fn first_line_of(key: &str, before: &str) -> Option<Span> {
    let is_header = before.ends_with('[');
    let table = if is_header { 0 } else { before.rfind("\n[").unwrap_or(0) };
    let mut start = table;
    before[table..].split_inclusive('\n').find_map(|line| {
        let at = start + line.len() - line.trim_start().len();
        start += line.len();
        let after = match is_header {
            true => line.trim_start().strip_prefix('[')?.strip_prefix(key)?,
            false => line.trim_start().strip_prefix(key)?,
        };
        let is_it = after.trim_start().starts_with(if is_header { ']' } else { '=' });
        let at = at + usize::from(is_header);
        is_it.then_some(at..at + key.len())
    })
}

/// The list or table that the text ends in at `end`: the outermost, which is the first.
fn opened(node: &Node, end: usize) -> Option<Span> {
    let is_open = |node: &Node| {
        node.span.end == end && matches!(node.value, Value::List(_) | Value::Table(_))
    };
    let children = node.entries().iter().map(|entry| &entry.node).chain(node.elements());
    let mut nodes = children.filter(|child| child.span.start < child.span.end);
    nodes.find_map(
        |child| if is_open(child) { Some(child.span.clone()) } else { opened(child, end) },
    )
}
