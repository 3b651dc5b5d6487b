//! Build chores, run as `cargo xtask VERB`. One file per verb; nothing but cargo is needed.

mod cargo;
mod r#gen;
mod slowest;
mod test;
mod tidy;

use anyhow::Result;
use cargo::Cargo;
use clap::{Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build chores of the repository")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run every test: units, protocols, roles and, as root, the whole mesh
    Test(test::Args),
    /// Format, lints, tidy, documentation, generated code
    Check,
    /// Layers, boundaries, file rules, links, dependency policy
    Tidy,
    /// Everything that a change must pass
    Ci,
    /// Feed mutated bytes to every parser of foreign input
    Fuzz(Fuzz),
    /// Measure the mesh beside the plain path
    Bench {
        /// Handed to the benchmark as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A real Kubernetes on this machine: up, down, kubectl, image
    Cluster {
        /// Handed to the lab as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write the code generated from .proto files
    Gen {
        /// Fail if what is committed is stale, write nothing
        #[arg(long)]
        check: bool,
    },
}

#[derive(clap::Args)]
struct Fuzz {
    /// Only this target; all of them otherwise
    target: Option<String>,
    /// Time per target
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let root = root();
    let cargo = Cargo::new(&root);
    match verb {
        Verb::Test(args) => test::run(&root, &cargo, &args),
        Verb::Check => check(&root, &cargo),
        Verb::Tidy => tidy::run(&root, &cargo),
        Verb::Ci => {
            check(&root, &cargo)?;
            test::run(&root, &cargo, &test::Args::default())?;
            fuzz(&cargo, &Fuzz { target: None, seconds: 5 })
        }
        Verb::Fuzz(args) => fuzz(&cargo, &args),
        Verb::Bench { args } => {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            // What is measured is the binary beside the benchmark; the control plane is in the benchmark itself.
            if args.first().is_none_or(|part| *part != "control") {
                cargo.run(&["build", "--release", "--package", "ambit"])?;
            }
            cargo.run(&[&["run", "--release", "--package", "bench", "--"], &*args].concat())
        }
        Verb::Cluster { args } => {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            cargo.run(&[&["run", "--quiet", "--package", "lab", "--"], &*args].concat())
        }
        Verb::Gen { check } => r#gen::run(&root, check),
    }
}

/// What needs no test to run; cheapest first.
fn check(root: &Path, cargo: &Cargo) -> Result<()> {
    cargo.run(&["fmt", "--all", "--check"])?;
    tidy::run(root, cargo)?;
    r#gen::run(root, true)?;
    cargo.run(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    cargo.with_env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links").run(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ])
}

/// The targets are tests of the package `fuzz`; how long each runs is told by the environment.
fn fuzz(cargo: &Cargo, args: &Fuzz) -> Result<()> {
    let words = ["test", "--workspace", "--test", "fuzz", "--"];
    let words = words.into_iter().chain(args.target.as_deref());
    cargo.with_env("FUZZ_SECONDS", &args.seconds.to_string()).run(&words.collect::<Vec<_>>())
}

/// The repository's root, whatever folder the command is run from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
