//! `ambit demo`: a mesh of two nodes, and a walk through what it does.
//!
//! The demo asserts nothing about itself: every line of evidence is read from a link between the nodes, from a log, from
//! a metrics page or from the API ([`wire`], [`pods`]); the [`scenario`] only says what it must look like.

mod pods;
mod scenario;
mod screen;
mod wire;

use crate::{
    Outcome,
    onehost::{self, Options},
};
use runtime::process::Threads;
use std::{process::ExitCode, time::Instant};

/// Flags of `ambit demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the scenario; the exit status tells whether every step showed what it must
    #[arg(long)]
    once: bool,
    /// Port of the API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    api_port: u16,
    /// Name of the mesh
    #[arg(long, default_value = "demo")]
    name: String,
}

pub(crate) fn main(args: Args) -> Outcome {
    onehost::preflight()?;
    let options =
        Options { name: args.name, nodes: 2, state: None, profile: onehost::Profile::Ambient, api_port: args.api_port };
    let mut good = false;
    runtime::process::run("demo", Threads::Current, |shutdown| async {
        let shutdown = shutdown;
        let begun = Instant::now();
        let report = |step: &str| println!("{:>5.1} s  {step}", begun.elapsed().as_secs_f32());
        println!("Starting two nodes and a mesh, all in namespaces of their own.\n");
        let mesh = tokio::select! {
            started = onehost::start(&options, report) => started?,
            () = shutdown.triggered() => return Ok(()),
        };
        let walked = tokio::select! {
            walked = scenario::run(&mesh) => Some(walked),
            () = shutdown.triggered() => None,
        };
        if walked.is_some() && !args.once {
            println!("\nThe mesh goes on running. In another terminal:");
            println!("  export KUBECONFIG={}", mesh.kubeconfig.display());
            println!("  kubectl get pods -A");
            println!("Ctrl-C ends it.");
            shutdown.triggered().await;
        }
        mesh.end().await?;
        good = match walked {
            Some(outcome) => outcome?,
            None => false,
        };
        Ok(())
    })?;
    Ok(if good || !args.once { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
