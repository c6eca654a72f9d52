//! A file of servers.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidewire_auth::kept_file::KeptFile;

use super::roster::Looked;
use crate::server::ServerConfig;

/// A file of servers, read again when it changes.
#[derive(Debug)]
pub struct ServerFile {
    kept: KeptFile,
}

/// What is wrong with a file of servers.
#[derive(Debug, thiserror::Error)]
pub enum ServerFileError {
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("it is not UTF-8 text")]
    NotText,
    /// With the line and the place in it.
    #[error("{0}")]
    Wrong(String),
    #[error("two servers are called `{0}`; give each a name of its own")]
    SameName(String),
}

/// What is in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    server: Vec<ServerConfig>,
}

impl ServerFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// When it cannot be read or something in it is wrong.
    pub fn open(path: PathBuf) -> Result<(Self, Looked), ServerFileError> {
        let (kept, bytes) = KeptFile::open(path)?;
        let first = parse(bytes, kept.path())?;
        Ok((Self { kept }, first))
    }

    pub fn path(&self) -> &Path {
        self.kept.path()
    }

    /// What is in it, when it is not as it was.
    pub fn changed(&self) -> Option<Result<Looked, ServerFileError>> {
        let read = self.kept.changed()?;
        Some(read.map_err(ServerFileError::from).and_then(|bytes| parse(bytes, self.path())))
    }
}

/// What is in the file at `path`, whose directory is where relative paths start.
fn parse(bytes: Vec<u8>, path: &Path) -> Result<Looked, ServerFileError> {
    let text = String::from_utf8(bytes).map_err(|_| ServerFileError::NotText)?;
    let wrong = |error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start].lines().count().max(1));
        let message = error.message().trim();
        ServerFileError::Wrong(match line {
            Some(line) => format!("line {line}: {message}"),
            None => message.to_owned(),
        })
    };
    let mut contents: Contents = toml::from_str(&text).map_err(wrong)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    contents.server.iter_mut().for_each(|server| server.start_from(dir));
    let mut names: Vec<&str> = contents.server.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ServerFileError::SameName(pair[0].to_owned())),
        None => Ok(Looked::Listed(contents.server)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let read = parse(text.as_bytes().to_vec(), Path::new("servers.toml"));
        let shown = read.map(|looked| match looked {
            Looked::Listed(servers) => servers.into_iter().map(|it| it.name).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        match (shown, expected) {
            (Ok(names), Ok(expected)) => assert_eq!(names, expected, "{text}"),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected, "{text}"),
            (shown, expected) => panic!("{text}: {shown:?}, not {expected:?}"),
        }
    }

    #[test]
    fn servers_are_written_as_in_the_configuration() {
        let a = "[[server]]\nname = \"a\"\naddress = \"10.0.0.1:80\"\nweight = 2\n";
        check(a, Ok(&["a"]));
        check("", Ok(&[]));
        check(&format!("{a}{a}"), Err("two servers are called `a`; give each a name of its own"));
        check("[[server]]\nname = \"a\"\n", Err("line 1: missing field `address`"));
        let no_port = "[[server]]\nname = \"a\"\naddress = \"10.0.0.1\"\n";
        let message = "line 3: address `10.0.0.1` has no port; write it as `10.0.0.1:3000`";
        check(no_port, Err(message));
    }
}
