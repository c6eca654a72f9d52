//! Characters that a line of the log shows as an escape: what makes a terminal do something, or
//! shows a text in another order than it is in.
//!
//! JSON and `Debug` escape what ends a line. What JSON leaves is DEL, the control characters of 8
//! bits (U+009B begins a sequence as ESC `[` does) and those of direction (U+202E): an operator who
//! looks at a log in a terminal must see what is there.

use std::io::{self, Write};

/// A writer of whole lines.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Lines are ASCII nearly always.
        if line.iter().all(|byte| *byte < FIRST) {
            self.0.write_all(line)?;
        } else {
            self.0.write_all(escaped(&String::from_utf8_lossy(line)).as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// As JSON writes it, which is as good for a text.
fn escaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    for char in line.chars() {
        if is_deceptive(char) {
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            out.push(char);
        }
    }
    out
}

fn is_deceptive(char: char) -> bool {
    matches!(char,
        '\u{7f}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}')
}

const FIRST: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_shown_as_an_escape() {
        let check = |line: &str, expected: &str| {
            let mut out = Escaping(Vec::new());
            out.write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(out.0).unwrap(), expected);
        };
        check("plain \"text\" \u{1b}[0m\n", "plain \"text\" \u{1b}[0m\n");
        check("J\u{fc}rgen \u{4e2d}\n", "J\u{fc}rgen \u{4e2d}\n");
        check("a\u{7f}b\u{9b}31m\u{85}", "a\\u007fb\\u009b31m\\u0085");
        check("\u{202e}gpj.exe\u{2066}\u{2028}", "\\u202egpj.exe\\u2066\\u2028");
    }
}
