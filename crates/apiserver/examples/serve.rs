//! Runs the API server alone: `cargo run -p apiserver --example serve -- --pki DIR --listen 127.0.0.1:6443`.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: apiserver::Args,
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    apiserver::main(Cli::parse().args)
}
