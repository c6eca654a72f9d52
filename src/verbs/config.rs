//! `tidewire config`: a file to start from, the JSON schema, the reference page.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::ConfigArgs;
use crate::config::schema::Schema;
use crate::config::{editor, reference, starting};

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let schema = Schema::of_config();
    let text = if args.schema {
        serde_json::to_string_pretty(&editor::document(schema))? + "\n"
    } else if args.reference {
        reference::page(schema)
    } else {
        starting::text(schema)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
