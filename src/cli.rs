//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tidewire_hub::broker::url::{BrokerUrl, BrokerUrlError};
use tidewire_runtime::units::Period;

use crate::bench::Bench;
use crate::config::listen::BindAddress;
use crate::verbs::servers::{Change as ServerChange, ServerName};
use crate::verbs::token::args::TokenArgs;

/// Scale and secure WebSockets: an edge that understands them, a hub that spreads them
#[derive(Debug, Parser)]
#[command(version, long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Up(UpArgs),
    Run(RunArgs),
    Check(CheckArgs),
    Revoke(RevokeArgs),
    Servers(ServersArgs),
    Config(ConfigArgs),
    Token(TokenArgs),
    Bench(Box<Bench>),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Try it all at once: an edge, hub nodes behind it, a broker and a page
///
/// Runs an edge, hub nodes behind it that are balanced round robin, and a broker between them, all
/// in this process and without a configuration. Open the address in two browser windows: what is
/// said on one server is heard on the other. Ctrl-C ends it.
#[derive(Args, Debug)]
#[command(after_long_help = UP_EXAMPLES)]
pub struct UpArgs {
    /// Where the edge listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: BindAddress,

    /// Hub nodes behind the edge
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,

    /// Broker between the nodes: memory, or redis://host:6379
    #[arg(long, value_name = "URL", default_value = "memory", env = "TIDEWIRE_BROKER",
          hide_env_values = true, value_parser = broker_url)]
    pub broker: String,

    /// Speak TLS, with a certificate for development that is made on first use
    #[arg(long)]
    pub tls: bool,

    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,
}

/// Run a node: what a configuration file says
///
/// The file says where clients connect and where they go: to servers behind this one, to this
/// node's own hub, or to files. All that is wrong with the file is said before anything starts.
/// SIGTERM or Ctrl-C ends it: WebSocket clients get a Close 1001, and open requests are finished.
#[derive(Args, Debug)]
#[command(after_long_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Configuration file; - is standard input
    #[arg(short, long, value_name = "FILE", env = "TIDEWIRE_CONFIG")]
    pub config: PathBuf,
}

/// Say all that is wrong with configuration files
///
/// Each finding comes with its line and with what would be right. Nothing is started and no port
/// is bound. Ends with 0 when every file can be run, 1 when one cannot, 2 when one cannot be read.
#[derive(Args, Debug)]
#[command(after_long_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// Configuration files; - is standard input
    #[arg(short, long, value_name = "FILE", num_args = 1.., required = true)]
    pub config: Vec<PathBuf>,

    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,

    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people, with the lines of the file
    #[default]
    Text,
    /// For programs: a JSON object for each finding, a line each
    Json,
}

/// Revoke a token or a subject at a running node
///
/// WebSockets of it end with Close 3003, and it is not let in any more; a subject is let in again
/// with a token that is issued later. Nodes with the same broker learn of it. The admin listener's
/// token is read from the environment variable TIDEWIRE_ADMIN_TOKEN or from a file.
#[derive(Args, Debug)]
#[command(after_long_help = REVOKE_EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["subject", "token_id", "list"]))]
pub struct RevokeArgs {
    /// Whose tokens: all that were issued to this subject (sub) so far
    #[arg(long, value_name = "NAME")]
    pub subject: Option<String>,

    /// Which token, by its id (jti)
    #[arg(long, value_name = "ID")]
    pub token_id: Option<String>,

    /// Print what is revoked instead
    #[arg(long)]
    pub list: bool,

    /// How long it is remembered, at least as long as the token lives; the node has a default
    #[arg(long = "for", value_name = "TIME", conflicts_with = "list")]
    pub life: Option<Period>,

    #[command(flatten)]
    pub at: AdminArgs,
}

/// Where a running node is asked.
#[derive(Args, Debug)]
pub struct AdminArgs {
    /// Admin listener of the node
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9090",
        env = "TIDEWIRE_ADMIN",
        global = true
    )]
    pub admin: String,

    /// File with the admin listener's token
    #[arg(long, value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
}

/// See which servers take clients, and say which are to
///
/// Asks the admin listener of a running node. Its token is read from the environment variable
/// TIDEWIRE_ADMIN_TOKEN or from a file. What is set holds until the node is started again.
#[derive(Args, Debug)]
#[command(after_long_help = SERVERS_EXAMPLES)]
pub struct ServersArgs {
    #[command(flatten)]
    pub at: AdminArgs,

    #[command(subcommand)]
    pub verb: Option<ServersVerb>,
}

#[derive(Debug, Subcommand)]
pub enum ServersVerb {
    Set(SetServerArgs),
}

/// Say what a server is to be
///
/// ready: it takes clients, as far as its health checks find it well. drain: it takes no new
/// clients, only those that stick to it; who is there stays. maintenance: it takes nobody and is
/// not checked. weight=N: its share of new clients, 0 to 256; 0 is none.
#[derive(Args, Debug)]
pub struct SetServerArgs {
    /// Which server
    #[arg(value_name = "BACKEND/SERVER")]
    pub server: ServerName,

    /// What it is to be: ready, drain, maintenance or weight=N
    #[arg(value_name = "CHANGE", required = true)]
    pub changes: Vec<ServerChange>,

    /// Of which node, where the process has several
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// Print a configuration to start from
///
/// The file has every key that there is, with what it does and its default, and can be run once its
/// addresses are yours.
#[derive(Args, Debug)]
#[command(after_long_help = CONFIG_EXAMPLES)]
pub struct ConfigArgs {
    /// Print the JSON schema instead (draft 2020-12), for editors
    #[arg(long, conflicts_with = "reference")]
    pub schema: bool,

    /// Print the reference page instead (Markdown)
    #[arg(long)]
    pub reference: bool,
}

/// Print what a shell needs to complete command lines
///
/// Put the output where the shell looks for completions.
#[derive(Args, Debug)]
#[command(after_long_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// Shell
    pub shell: Shell,
}

/// Print the manual page
///
/// Without options, the page of the program; with --dir, one for it and one for each verb.
#[derive(Args, Debug)]
#[command(after_long_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The URL as it is written, when it is one: it goes into a configuration.
fn broker_url(text: &str) -> Result<String, BrokerUrlError> {
    text.parse::<BrokerUrl>().map(|_| text.to_owned())
}

const LONG_ABOUT: &str = "\
Scale and secure WebSockets.

Tidewire is both halves of the usual picture: the edge in front, which balances clients over \
servers and understands what it carries, and the hub behind it, whose nodes pass messages to each other \
through a broker, so that a client of one server reaches a client of another.";

const EXAMPLES: &str = "\
Examples:
  Try it, with nothing else installed:
    tidewire up
  Run what a file says, after a look at what is wrong with it:
    tidewire config > edge.toml
    tidewire check -c edge.toml
    tidewire run -c edge.toml
";

const UP_EXAMPLES: &str = "\
Examples:
  Two nodes behind an edge, and the page in a browser:
    tidewire up --open
  The same with https and wss, as browsers want for what is not on localhost:
    tidewire up --tls --open
  Three nodes with Redis between them, for the whole network:
    tidewire up --listen 0.0.0.0:8080 --nodes 3 --broker redis://127.0.0.1:6379
";

const RUN_EXAMPLES: &str = "\
Examples:
  Run an edge:
    tidewire run -c /etc/tidewire/edge.toml
  With a value that is read from the environment, as `broker = \"${BROKER_URL}\"` says:
    BROKER_URL=redis://10.0.0.5:6379 tidewire run -c node.toml
";

const CHECK_EXAMPLES: &str = "\
Examples:
  Check the files of three machines:
    tidewire check -c edge.toml server1.toml server2.toml
  In CI, where warnings count and a program reads:
    tidewire check --strict --format json -c edge.toml
";

const REVOKE_EXAMPLES: &str = "\
Examples:
  Lock ann out, on all nodes, until she has a new token:
    tidewire revoke --subject ann
  Revoke one token, at a node elsewhere that has an admin token:
    export TIDEWIRE_ADMIN=http://10.0.0.2:9090 TIDEWIRE_ADMIN_TOKEN=...
    tidewire revoke --token-id 8f14e45f --for 7d
  See what is revoked:
    tidewire revoke --list
";

const SERVERS_EXAMPLES: &str = "\
Examples:
  See them:
    tidewire servers
  Take one out, with its clients left where they are, and back in:
    tidewire servers set chat/server1 drain
    tidewire servers set chat/server1 ready
  Give it half of what the others get, each with a weight of 2:
    tidewire servers set chat/server1 weight=1
  At a node elsewhere that has an admin token:
    export TIDEWIRE_ADMIN=http://10.0.0.2:9090 TIDEWIRE_ADMIN_TOKEN=...
    tidewire servers set chat/server1 maintenance
";

const CONFIG_EXAMPLES: &str = "\
Examples:
  Start a configuration:
    tidewire config > edge.toml
  Let an editor complete and check it:
    tidewire config --schema > tidewire.schema.json
  with this line at the top of edge.toml, for editors with Taplo:
    #:schema ./tidewire.schema.json
";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tidewire completions bash > ~/.local/share/bash-completion/completions/tidewire
  tidewire completions zsh > ~/.zfunc/_tidewire
  tidewire completions fish > ~/.config/fish/completions/tidewire.fish
";

const MAN_EXAMPLES: &str = "\
Examples:
  Read it:
    tidewire man | man -l -
  Install all pages:
    tidewire man --dir /usr/local/share/man/man1
";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_about_a_longer_help_and_examples() {
        let command = Cli::command();
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let about = verb.get_about().unwrap_or_default().to_string();
            assert!(!about.is_empty() && !about.ends_with('.'), "{name}: {about:?}");
            let has_more = verb.get_long_about().is_some() || verb.has_subcommands();
            assert!(has_more, "{name} has no longer help");
            let examples = verb.get_after_long_help().or(verb.get_after_help());
            assert!(examples.is_some_and(|it| it.to_string().contains("tidewire ")), "{name}");
        }
    }

    fn check(line: &str, expected: &str) {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }

    #[test]
    fn bad_usage_is_helped() {
        check("tidewire chekc", "check");
        check("tidewire check", "--config <FILE>");
        check("tidewire up --listen localhost:80", "write an address of this machine");
        check("tidewire up --nodes 0", "1..=64");
        check("tidewire up --broker rabbit", "write \"memory\" or \"redis://host:6379\"");
        check("tidewire config --schema --reference", "cannot be used with");
    }
}
