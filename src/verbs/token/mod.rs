//! `tidewire token`: makes and checks what clients authenticate with. A file for each verb that is
//! more than a few lines.

pub mod args;
mod keypair;
mod make;
mod password;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use tidewire_auth::identity::Identity;
use tidewire_auth::jwt::{Jwt, json, token};
use tidewire_auth::method::Method;
use tidewire_auth::{api_key, jwt};
use tidewire_runtime::clock::unix_seconds;
use tidewire_runtime::units::Period;

use self::args::{CheckArgs, KeyArgs, TokenArgs, TokenVerb};
use super::UNREADABLE;
use crate::plan::{Plan, PlanError};
use crate::process;

pub fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        TokenVerb::Make(args) => say(&make::token(args, unix_seconds())?),
        TokenVerb::Check(args) => return check(args),
        TokenVerb::Show(_) => show(&input()?),
        TokenVerb::Key(args) => key(args),
        TokenVerb::Password(args) => password::run(args),
        TokenVerb::Keypair(args) => keypair::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let plan = match Plan::load(&args.config) {
        Ok((plan, _)) => plan,
        Err(PlanError::Refused(report)) => {
            report.print();
            return Ok(ExitCode::from(UNREADABLE));
        }
        Err(error) => return Err(error.into()),
    };
    let jwt = match chosen(&plan, args.auth.as_deref()) {
        Ok(jwt) => jwt,
        Err(why) => {
            writeln!(io::stderr(), "tidewire: {why}")?;
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let token = input()?;
    let control = process::control()?;
    if let Err(why) = control.block_on(jwt.keys().fetch()) {
        writeln!(io::stderr(), "tidewire: the key set of `{}` cannot be used: {why}", jwt.auth())?;
        return Ok(ExitCode::from(UNREADABLE));
    }
    let now = unix_seconds();
    match control.block_on(jwt.identify(&token, now)) {
        Ok(identity) => {
            say(&good(jwt, &identity, now))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            writeln!(io::stderr(), "tidewire: not accepted by `{}`: {fault}", jwt.auth())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The `[[auth]]` of this name, or the only one that takes tokens.
fn chosen<'p>(plan: &'p Plan, name: Option<&str>) -> Result<&'p Jwt, String> {
    let tokens = plan.auths.iter().filter_map(|auth| match &**auth.method()? {
        Method::Jwt(jwt) => Some(&**jwt),
        _ => None,
    });
    let tokens: Vec<&Jwt> = tokens.collect();
    match (name, tokens.as_slice()) {
        (None, [only]) => Ok(only),
        (None, []) => Err("no `[[auth]]` of this configuration takes tokens".into()),
        (None, [first, ..]) => {
            let (count, first) = (tokens.len(), first.auth());
            Err(format!("{count} `[[auth]]` take tokens; name one, such as `--auth {first}`"))
        }
        (Some(name), _) => {
            let found = tokens.iter().copied().find(|jwt| jwt.auth() == name);
            found.ok_or_else(|| format!("there is no `[[auth]]` `{name}` that takes tokens"))
        }
    }
}

fn good(jwt: &Jwt, identity: &Identity, now: u64) -> String {
    let who = identity.subject().map_or("nobody by name".to_owned(), |it| format!("`{it}`"));
    let end = identity.expires().map_or("without end".to_owned(), |at| {
        format!("for {} more, the leeway included", Period::from_secs(at.saturating_sub(now)))
    });
    format!("good: `{}` takes it for {who}, {end}", jwt.auth())
}

/// What the token says, as JSON on standard output; that nobody should rely on it goes beside it.
fn show(text: &str) -> anyhow::Result<()> {
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, _] = parts.as_slice() else {
        bail!("a token has three parts with a dot between them, this has {}", parts.len());
    };
    let object = |name: &str, part: &str| {
        let object = token::decode(part).as_deref().and_then(json::object);
        object.with_context(|| format!("the {name} is not a JSON object in base64url"))
    };
    let (header, payload) = (object("header", header)?, object("payload", payload)?);
    writeln!(io::stderr(), "NOT VERIFIED: anybody can write a token that says this")?;
    for line in times(&payload, unix_seconds()) {
        writeln!(io::stderr(), "{line}")?;
    }
    let all = serde_json::json!({ "header": header, "payload": payload });
    say(&serde_json::to_string_pretty(&all)?)
}

/// What the times of a token mean today.
fn times(claims: &Map<String, Value>, now: u64) -> Vec<String> {
    let named = [("iat", "issued"), ("nbf", "begins"), ("exp", "ends")];
    let times = named.into_iter().filter_map(|(claim, verb)| {
        let at = claims.get(claim)?.as_u64()?;
        let period = |seconds| Period::from_secs(seconds);
        Some(match at.checked_sub(now) {
            Some(0) => format!("  {claim}: {verb} now"),
            Some(left) => format!("  {claim}: {verb} in {}", period(left.min(TIME_MAX))),
            None => format!("  {claim}: {verb} {} ago", period(now - at)),
        })
    });
    times.collect()
}

fn key(args: &KeyArgs) -> anyhow::Result<()> {
    named(&args.name)?;
    let (key, line) = api_key::make(&args.name);
    say(&key)?;
    say(&line)
}

/// Names stand in front of a colon in a file, and in logs.
fn named(name: &str) -> anyhow::Result<()> {
    let has_blank = name.contains(|c: char| c == ':' || c.is_whitespace());
    if has_blank || name.starts_with('#') || !jwt::claims::is_name(name) {
        bail!("`{}` cannot be a name; write one without colons and blanks", name.escape_debug());
    }
    Ok(())
}

/// The token on standard input, without the line break behind it.
fn input() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text).context("standard input")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// More than any edge takes.
const INPUT_BYTES_MAX: u64 = 4 << 20;
/// A thousand years: what is later is not worth a number.
const TIME_MAX: u64 = 365 * 86_400 * 1000;
