//! Build chores, run as `cargo xtask VERB`.

mod r#gen;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build chores of the repository")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the code generated from .proto files
    Gen {
        /// Fail if what is committed is stale, write nothing
        #[arg(long)]
        check: bool,
    },
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Gen { check } => r#gen::run(&root(), check),
    }
}

/// The repository's root, whatever folder the command is run from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
