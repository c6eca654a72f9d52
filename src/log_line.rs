//! One event, one line, whatever is in it.
//!
//! Fields are escaped by whoever formats them, but not all of them and not from everything: a text
//! that is shown as it is (an error that quotes a server) may have a line break, and no JSON has to
//! escape what turns the direction of a terminal's text around. So the last one to see a line looks
//! at it again.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::fmt::MakeWriter;

/// How what must not be in a line is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As in Rust: `\n`, `\u{202e}`.
    Text,
    /// As [`Escape::Text`], and the colours that the formatter has put there stay.
    Colours,
    /// As in JSON: `\u202e`.
    Json,
}

/// Makes writers whose every write is one event.
#[derive(Debug)]
pub struct Lines<M> {
    pub inner: M,
    pub escape: Escape,
}

/// Writes an event.
#[derive(Debug)]
pub struct Line<W> {
    inner: W,
    escape: Escape,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Lines<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { inner: self.inner.make_writer(), escape: self.escape }
    }
}

impl<W: io::Write> io::Write for Line<W> {
    /// Takes all of it: an event comes in one write.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.inner.write_all(&line(event, self.escape))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The line of an event, with its end.
fn line(event: &[u8], escape: Escape) -> Cow<'_, [u8]> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    if body.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(event);
    }
    let text = String::from_utf8_lossy(body);
    let mut line = String::with_capacity(text.len() + 16);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match colour(rest.as_str()).filter(|_| escape == Escape::Colours && c == '\x1b') {
            Some(length) => {
                line.push(c);
                line.push_str(&rest.as_str()[..length]);
                rest = rest.as_str()[length..].chars();
            }
            None if is_hidden(c) => push_escaped(&mut line, c, escape),
            None => line.push(c),
        }
    }
    line.push('\n');
    Cow::Owned(line.into_bytes())
}

/// The bytes behind an ESC that make it a colour: `[1;32m`.
fn colour(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    inner[end..].starts_with('m').then_some(end + 2)
}

fn push_escaped(line: &mut String, c: char, escape: Escape) {
    if escape == Escape::Json {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(line, "\\u{unit:04x}");
        }
    } else {
        line.extend(c.escape_default());
    }
}

/// Whether a reader would not see it for what it is: control characters, line separators, and the
/// format characters of Unicode (Cf), among them those that turn text around.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &str, escape: Escape, expected: &str) {
        let written = line(event.as_bytes(), escape);
        assert_eq!(String::from_utf8_lossy(&written), expected, "{event:?} {escape:?}");
    }

    #[test]
    fn an_event_is_a_line_in_which_nothing_hides() {
        check("a=\"b\"\n", Escape::Text, "a=\"b\"\n");
        check("grüße ☃ 🙂\n", Escape::Text, "grüße ☃ 🙂\n");
        check("a\nb\r\tc\0\n", Escape::Text, "a\\nb\\r\\tc\\u{0}\n");
        check("\x1b[31m\x7f\u{9b}\n", Escape::Text, "\\u{1b}[31m\\u{7f}\\u{9b}\n");
        check("a\u{202e}b\u{2028}\u{feff}\n", Escape::Text, "a\\u{202e}b\\u{2028}\\u{feff}\n");
        check("\u{202e}\u{7f}\u{e0041}\n", Escape::Json, "\\u202e\\u007f\\udb40\\udc41\n");
    }

    #[test]
    fn colours_stay_and_no_other_sequence() {
        check("\x1b[1;32mINFO\x1b[0m a\n", Escape::Colours, "\x1b[1;32mINFO\x1b[0m a\n");
        check("\x1b[2J\x1b]0;x\x07\x1b\n", Escape::Colours, "\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{1b}\n");
    }
}
