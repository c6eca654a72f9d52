//! Files with a line for each key or user: `name:value`, and claims as a JSON object behind it.
//!
//! Messages say the number of a line, never what is in it: it may be a secret in a wrong place.

use serde_json::{Map, Value};

use crate::jwt::claims::is_name;
use crate::jwt::json;

/// A line that names somebody.
#[derive(Debug)]
pub struct Entry<'f> {
    /// From 1.
    pub line: usize,
    pub name: &'f str,
    pub value: &'f str,
    pub claims: Map<String, Value>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesFault {
    #[error("the file is not UTF-8 text")]
    NotText,
    #[error("the file has no line `{0}`")]
    Empty(&'static str),
    #[error("line {line} is not `{form}`")]
    Form { line: usize, form: &'static str },
    #[error("line {line}: {why}")]
    Line { line: usize, why: String },
}

/// The entries of a file, in which empty lines and those that begin with `#` do not count. `form`
/// is what a line should look like.
pub fn read<'f>(file: &'f [u8], form: &'static str) -> Result<Vec<Entry<'f>>, EntriesFault> {
    let text = std::str::from_utf8(file).map_err(|_| EntriesFault::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entries: Vec<_> = lines.map(|(number, line)| entry(number, line, form)).collect();
    match entries.is_empty() {
        true => Err(EntriesFault::Empty(form)),
        false => entries.into_iter().collect(),
    }
}

fn entry<'f>(line: usize, text: &'f str, form: &'static str) -> Result<Entry<'f>, EntriesFault> {
    let wrong = EntriesFault::Form { line, form };
    let (name, rest) = text.split_once(':').ok_or(wrong.clone())?;
    let (value, claims) = match rest.split_once(char::is_whitespace) {
        None => (rest, Map::new()),
        Some((value, claims)) => {
            let why = "what is behind the first blank must be a JSON object of claims".to_owned();
            let claims = json::object(claims.trim().as_bytes());
            (value, claims.ok_or(EntriesFault::Line { line, why })?)
        }
    };
    if value.is_empty() || !is_name(name) {
        return Err(wrong);
    }
    Ok(Entry { line, name, value, claims })
}
