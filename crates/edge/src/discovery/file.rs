//! A file of servers.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidewire_auth::kept_file::KeptFile;

use super::roster::Looked;
use crate::address::{Address, UNIX_PATH_BYTES_MAX};
use crate::server::{NAME_BYTES_MAX, ServerConfig, is_name};
use crate::weight::WEIGHT_MAX;

/// A file of servers, read again when it changes.
#[derive(Debug)]
pub struct ServerFile {
    kept: KeptFile,
    certificates: Certificates,
}

/// Whether the servers of a file have to show certificates, for names that they have themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    Named,
    NotNamed,
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
    /// Whoever has written it may have meant it for the log.
    #[error(
        "{0:?} is not a name for a server; \
         expected up to {NAME_BYTES_MAX} letters, digits and - _ . : /"
    )]
    NoName(String),
    #[error("the weight of server `{0}` is {1}; expected 0 to {WEIGHT_MAX}")]
    Weight(String, u16),
    #[error("two servers are called `{0}`; give each a name of its own")]
    SameName(String),
    #[error(
        "the Unix socket of server `{0}` has too long a path; \
         write one of {UNIX_PATH_BYTES_MAX} bytes at most, with its directory"
    )]
    TooLong(String),
    #[error(
        "nobody knows which name the certificate of server `{0}` has; \
         set its `server_name`, or that of the backend's `tls`"
    )]
    NoCertificateName(String),
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
    pub fn open(
        path: PathBuf,
        certificates: Certificates,
    ) -> Result<(Self, Looked), ServerFileError> {
        let (kept, bytes) = KeptFile::open(path)?;
        let file = Self { kept, certificates };
        let first = file.parse(bytes)?;
        Ok((file, first))
    }

    pub fn path(&self) -> &Path {
        self.kept.path()
    }

    /// What is in it, when it is not as it was.
    pub fn changed(&self) -> Option<Result<Looked, ServerFileError>> {
        let read = self.kept.changed()?;
        Some(read.map_err(ServerFileError::from).and_then(|bytes| self.parse(bytes)))
    }

    fn parse(&self, bytes: Vec<u8>) -> Result<Looked, ServerFileError> {
        parse(bytes, self.path(), self.certificates)
    }
}

/// What is in the file at `path`, whose directory is where relative paths start.
fn parse(
    bytes: Vec<u8>,
    path: &Path,
    certificates: Certificates,
) -> Result<Looked, ServerFileError> {
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
    contents.server.iter().try_for_each(|server| check(server, certificates))?;
    let mut names: Vec<&str> = contents.server.iter().map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ServerFileError::SameName(pair[0].to_owned())),
        None => Ok(Looked::Listed(contents.server)),
    }
}

fn check(server: &ServerConfig, certificates: Certificates) -> Result<(), ServerFileError> {
    let name = || server.name.clone();
    if !is_name(&server.name) {
        return Err(ServerFileError::NoName(name()));
    }
    if server.weight > WEIGHT_MAX {
        return Err(ServerFileError::Weight(name(), server.weight));
    }
    if server.addresses().any(Address::is_too_long) {
        return Err(ServerFileError::TooLong(name()));
    }
    if certificates == Certificates::Named && !server.has_certificate_name() {
        return Err(ServerFileError::NoCertificateName(name()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        check_with(Certificates::NotNamed, text, expected);
    }

    #[track_caller]
    fn check_with(certificates: Certificates, text: &str, expected: Result<&[&str], &str>) {
        let read = parse(text.as_bytes().to_vec(), Path::new("servers.toml"), certificates);
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

    #[test]
    fn names_and_weights_have_the_bounds_that_they_have_in_the_configuration() {
        let named = |name: &str, more: &str, expected: Result<&[&str], &str>| {
            let server = format!("[[server]]\nname = {name}\naddress = \"10.0.0.1:80\"\n");
            check(&(server + more), expected);
        };
        named("'a-b_c.d:80/e'", "weight = 256", Ok(&["a-b_c.d:80/e"]));
        named("'a'", "weight = 257", Err("the weight of server `a` is 257; expected 0 to 256"));
        for name in [r#"''"#, r#"'a b'"#, r#""a\nb""#, r#""\"""#] {
            let shown = name.replace("'", "\"");
            let expected = "expected up to 64 letters, digits and - _ . : /";
            named(name, "", Err(&format!("{shown} is not a name for a server; {expected}")));
        }
    }

    #[test]
    fn a_server_has_a_name_for_its_certificate_where_it_shows_one() {
        let named = |server: &str, expected: Result<&[&str], &str>| {
            let text = format!("[[server]]\nname = \"a\"\n{server}\n");
            check(&text, Ok(&["a"]));
            check_with(Certificates::Named, &text, expected);
        };
        let message = "nobody knows which name the certificate of server `a` has; \
                       set its `server_name`, or that of the backend's `tls`";
        named("address = \"unix:/run/a.sock\"", Err(message));
        named("address = \"under_score:80\"\nserver_name = \"a.test\"", Ok(&["a"]));
        named("address = \"unix:/run/a.sock\"\nserver_name = \"a.test\"", Ok(&["a"]));
        named("address = \"a.test:443\"", Ok(&["a"]));
        named("address = \"10.0.0.1:443\"", Ok(&["a"]));
    }

    #[test]
    fn paths_of_unix_sockets_have_their_bound_with_their_directory() {
        let path = Path::new("/").join("x".repeat(100)).join("servers.toml");
        for address in [
            "address = \"unix:a.socket\"",
            "address = \"10.0.0.1:80\"\ncheck_address = \"unix:a.socket\"",
        ] {
            let text = format!("[[server]]\nname = \"a\"\n{address}\n");
            check(&text, Ok(&["a"]));
            let error = parse(text.into_bytes(), &path, Certificates::NotNamed).unwrap_err();
            let message = "the Unix socket of server `a` has too long a path; \
                           write one of 107 bytes at most, with its directory";
            assert_eq!(error.to_string(), message);
        }
    }
}
