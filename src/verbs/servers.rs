//! `tidewire servers`: the servers of a running node, and what the operator wants of them.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

use tidewire_edge::server_state::Operator;

use super::admin_client::{get, post};
use crate::admin::servers::{List, Request, Row};
use crate::cli::{ServersArgs, ServersVerb};

/// Prints the servers, or sets what one of them is to be.
pub fn run(args: &ServersArgs) -> anyhow::Result<ExitCode> {
    let list: List = match &args.verb {
        None => get(&args.at, "/servers")?,
        Some(ServersVerb::Set(set)) => {
            let mut request = Request {
                node: set.node.clone(),
                backend: set.server.backend.clone(),
                server: set.server.server.clone(),
                state: None,
                weight: None,
            };
            for change in &set.changes {
                match change {
                    Change::State(state) => request.state = Some(*state),
                    Change::Weight(weight) => request.weight = Some(*weight),
                }
            }
            post(&args.at, "/servers", &request)?
        }
    };
    let text = table(&list.servers);
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `BACKEND/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    backend: String,
    server: String,
}

impl FromStr for ServerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((backend, server)) if !backend.is_empty() && !server.is_empty() => {
                Ok(Self { backend: backend.to_owned(), server: server.to_owned() })
            }
            _ => Err("write it as BACKEND/SERVER, such as chat/server1".to_owned()),
        }
    }
}

/// What a server is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    State(Operator),
    Weight(u16),
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ready" => Ok(Self::State(Operator::Ready)),
            "drain" => Ok(Self::State(Operator::Drain)),
            "maintenance" => Ok(Self::State(Operator::Maintenance)),
            _ => text
                .strip_prefix("weight=")
                .and_then(|weight| weight.parse().ok())
                .map(Self::Weight)
                .ok_or_else(|| "write ready, drain, maintenance or weight=N".to_owned()),
        }
    }
}

/// A line for each server, in columns; the node is said where there are several.
fn table(rows: &[Row]) -> String {
    let has_nodes = rows.iter().any(|row| row.node != rows[0].node);
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    for row in rows {
        let node = if has_nodes { format!("{} ", row.node) } else { String::new() };
        lines.push([
            format!("{node}{}/{}", row.backend, row.server),
            row.address.clone(),
            row.state.clone(),
            row.weight.to_string(),
            row.connections.to_string(),
            row.why.clone(),
        ]);
    }
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let line = |cells: &[String; HEADINGS.len()]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

const HEADINGS: [&str; 6] = ["SERVER", "ADDRESS", "STATE", "WEIGHT", "CLIENTS", "WHY"];

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str, state: &str, why: &str) -> Row {
        Row {
            node: "edge".into(),
            backend: "chat".into(),
            server: server.into(),
            address: "10.0.0.2:3000".into(),
            state: state.into(),
            why: why.into(),
            operator: Operator::Ready,
            weight: 1,
            connections: 1500,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_server() {
        let rows = [row("server1", "up", ""), row("b", "down", "status 500")];
        let expected = "\
SERVER        ADDRESS        STATE  WEIGHT  CLIENTS  WHY
chat/server1  10.0.0.2:3000  up     1       1500
chat/b        10.0.0.2:3000  down   1       1500     status 500
";
        assert_eq!(table(&rows), expected);
        assert_eq!(table(&[]).lines().count(), 1);
    }

    #[test]
    fn a_server_is_named_with_its_backend() {
        let name: ServerName = "chat/a/b".parse().unwrap();
        assert_eq!((name.backend.as_str(), name.server.as_str()), ("chat", "a/b"));
        for wrong in ["chat", "/a", "chat/", ""] {
            assert!(wrong.parse::<ServerName>().is_err(), "{wrong}");
        }
        assert_eq!("weight=5".parse(), Ok(Change::Weight(5)));
        for wrong in ["up", "weight", "weight=", "weight=-1", "weight=5x"] {
            assert!(wrong.parse::<Change>().is_err(), "{wrong}");
        }
    }
}
