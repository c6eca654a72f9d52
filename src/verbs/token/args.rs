//! The command line of `tidewire token`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use tidewire_runtime::units::Period;

/// Make and check tokens, keys and passwords
///
/// For trying an `[[auth]]` out, for scripts, and for finding out why a client is not let in.
/// Secrets come from the environment, from files or from standard input, never from the command
/// line, which everybody on the machine can read.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub what: TokenVerb,
}

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    Make(Box<MakeArgs>),
    Check(CheckArgs),
    Show(ShowArgs),
    Key(KeyArgs),
    Password(PasswordArgs),
    Keypair(KeypairArgs),
}

/// Make a token (JWT) and print it
///
/// It is good for an hour and has a `jti` of its own, by which it can be revoked, unless you say
/// otherwise.
#[derive(Args, Debug)]
#[command(after_long_help = MAKE_EXAMPLES)]
#[command(group = ArgGroup::new("signer").required(true))]
pub struct MakeArgs {
    /// Sign with the secret in this environment variable
    #[arg(long, value_name = "NAME", group = "signer")]
    pub secret_env: Option<String>,

    /// Sign with the secret in this file
    #[arg(long, value_name = "FILE", group = "signer")]
    pub secret_file: Option<PathBuf>,

    /// Sign with the private key in this PEM file (PKCS#8)
    #[arg(long, value_name = "FILE", group = "signer")]
    pub key: Option<PathBuf>,

    /// Algorithm, such as ES256; by default the first that is for the key
    #[arg(long)]
    pub alg: Option<String>,

    /// Whom the token speaks of
    #[arg(long)]
    pub sub: Option<String>,

    /// Who made it
    #[arg(long)]
    pub iss: Option<String>,

    /// Whom it is for; several make a list
    #[arg(long)]
    pub aud: Vec<String>,

    /// Its own name; a random one by default
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,

    /// How long it is good
    #[arg(long, value_name = "TIME", default_value = "1h", conflicts_with = "no_exp")]
    pub exp: Period,

    /// Make one that never ends; an edge takes it only with `allow_no_expiry = true`
    #[arg(long)]
    pub no_exp: bool,

    /// In how long it begins to be good
    #[arg(long, value_name = "TIME")]
    pub nbf: Option<Period>,

    /// A claim: NAME=TEXT or NAME:=JSON
    #[arg(long, value_name = "CLAIM")]
    pub claim: Vec<String>,

    /// Which of the issuer's keys this is
    #[arg(long)]
    pub kid: Option<String>,

    /// What kind of token it is, such as at+jwt
    #[arg(long)]
    pub typ: Option<String>,
}

/// Say whether an edge would take a token, and why not
///
/// Reads the token from standard input, and checks it as the edge of this configuration would. Ends
/// with 0 when it is good, 1 when it is not, 2 when that cannot be told.
#[derive(Args, Debug)]
#[command(after_long_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", env = "TIDEWIRE_CONFIG")]
    pub config: PathBuf,

    /// Name of the `[[auth]]`; not needed when there is only one with tokens
    #[arg(long, value_name = "NAME")]
    pub auth: Option<String>,

    /// Standard input, and nothing else
    #[arg(value_parser = only_stdin, default_value = "-", hide = true)]
    pub token: String,
}

/// Show what a token says, without checking it
///
/// Reads the token from standard input. What it prints is not verified: anybody can write such a
/// token.
#[derive(Args, Debug)]
#[command(after_long_help = SHOW_EXAMPLES)]
pub struct ShowArgs {
    /// Standard input, and nothing else
    #[arg(value_parser = only_stdin, default_value = "-", hide = true)]
    pub token: String,
}

/// Make an API key and the line for it
///
/// The first line of the output is the key, for the program that is to use it. The second line
/// goes into the file that `api_key = { file = "..." }` names; the key cannot be found out from it.
#[derive(Args, Debug)]
#[command(after_long_help = KEY_EXAMPLES)]
pub struct KeyArgs {
    /// Whose key it is
    #[arg(long)]
    pub name: String,
}

/// Make the line of a user and a password
///
/// Reads the password from standard input, a line of it; at a terminal, it asks. The line goes into
/// the file that `basic = { users = "..." }` names.
#[derive(Args, Debug)]
#[command(after_long_help = PASSWORD_EXAMPLES)]
pub struct PasswordArgs {
    /// Whose password it is
    #[arg(long)]
    pub user: String,
}

/// Make a key pair to sign tokens with
///
/// Prints the private key (PKCS#8), the public key and the key set, or writes them to files that
/// are not there yet: NAME.private.pem, NAME.public.pem and NAME.jwks.json.
#[derive(Args, Debug)]
#[command(after_long_help = KEYPAIR_EXAMPLES)]
pub struct KeypairArgs {
    /// Algorithm that the pair is for
    #[arg(long, value_enum, ignore_case = true, default_value = "ES256")]
    pub alg: PairAlgorithm,

    /// Name of the key in the key set; its thumbprint (RFC 7638) by default
    #[arg(long)]
    pub kid: Option<String>,

    /// Write files of this name
    #[arg(long, value_name = "NAME")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PairAlgorithm {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "ES384")]
    Es384,
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "PS256")]
    Ps256,
}

fn only_stdin(text: &str) -> Result<String, &'static str> {
    match text {
        "-" => Ok(text.to_owned()),
        _ => Err("everybody on this machine can read command lines; write it to standard input"),
    }
}

const EXAMPLES: &str = "\
Examples:
  A token for an hour, tried at an edge:
    tidewire token make --secret-env TOKEN_SECRET --sub ann > token
    tidewire token check -c edge.toml < token
    curl -H \"Authorization: Bearer $(cat token)\" http://localhost:8080/
  A key pair, when the edge should not be able to make tokens:
    tidewire token keypair --out issuer
    tidewire token make --key issuer.private.pem --sub ann
";

const MAKE_EXAMPLES: &str = "\
Examples:
  With a secret from the environment, and claims:
    tidewire token make --secret-env TOKEN_SECRET --sub ann --claim role=admin
  With a private key, for five minutes, with a list and a number:
    tidewire token make --key issuer.private.pem --exp 5m \\
      --claim 'rooms:=[\"a\",\"b\"]' --claim level:=3 --aud chat
";

const CHECK_EXAMPLES: &str = "\
Examples:
  Why is this client not let in?
    tidewire token check -c edge.toml --auth users < token
  Both ends at once:
    tidewire token make --secret-env TOKEN_SECRET --sub ann | tidewire token check -c edge.toml
";

const SHOW_EXAMPLES: &str = "\
Examples:
  Who made this token, and for whom?
    tidewire token show < token
";

const KEY_EXAMPLES: &str = "\
Examples:
  A key for the billing service; the key to its owner, the line to the edge:
    tidewire token key --name billing
";

const PASSWORD_EXAMPLES: &str = "\
Examples:
  Add a user:
    tidewire token password --user ann >> users
";

const KEYPAIR_EXAMPLES: &str = "\
Examples:
  Files for the issuer and for the edge:
    tidewire token keypair --alg ES256 --out issuer
";
