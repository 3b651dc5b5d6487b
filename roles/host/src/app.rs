//! The demo application that is built into the binary (`image: ambit.local/app`): something to talk to and something
//! that talks, so that a mesh can be seen working without fetching any image.
//!
//! `serve` answers HTTP and TCP and says who asked and who answered; `client` asks, prints one line per answer and
//! exits with success only if every answer was good. `load` and `sink` are the two ends of a measurement. It knows nothing
//! of the mesh: it is the unmodified application.

mod client;
mod duration;
mod echo;
mod http;
mod load;
mod sink;
mod whoami;

use clap::Subcommand;

/// What the demo application is asked to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Answer HTTP and TCP requests, telling who asked and who answered
    Serve(ServeArgs),
    /// Send requests and print one line per answer
    Client(client::Args),
    /// Make as much traffic as goes through, and tell how much that was
    Load(load::Args),
    /// Take the traffic of `load`
    Sink(sink::Args),
}

/// What `app serve` listens on and how it misbehaves when asked to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArgs {
    /// Port of the HTTP echo; 0 turns it off
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// Port of the TCP echo; 0 turns it off
    #[arg(long, default_value_t = 9000)]
    tcp: u16,
    /// Speak first on every TCP connection, as SMTP and MySQL servers do
    #[arg(long)]
    greet: bool,
    /// Echo TCP bytes as they come instead of answering line by line
    #[arg(long)]
    raw: bool,
    /// Wait this long before every HTTP answer
    #[arg(long, default_value = "0ms", value_parser = duration::parse)]
    delay: std::time::Duration,
    /// Answer every HTTP request (except health checks) with this status
    #[arg(long)]
    fail: Option<u16>,
    /// Report unhealthy until this long after start
    #[arg(long, default_value = "0ms", value_parser = duration::parse)]
    ready_after: std::time::Duration,
    /// Exit with status 1 this long after start
    #[arg(long, value_parser = duration::parse)]
    crash_after: Option<std::time::Duration>,
    /// Keep serving this long after SIGTERM
    #[arg(long, default_value = "0ms", value_parser = duration::parse)]
    linger: std::time::Duration,
}

/// Runs the demo application until it is done or told to stop.
pub fn main(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match args.mode {
        Mode::Serve(args) => two_threads()?.block_on(serve(args)),
        Mode::Client(args) => Ok(two_threads()?.block_on(client::run(args))?),
        Mode::Load(args) => load::main(&args),
        Mode::Sink(args) => sink::main(&args),
    }
}

fn two_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

async fn serve(args: ServeArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = std::sync::Arc::new(whoami::Server::from_environment());
    if args.http != 0 {
        let listener = listen(args.http).await?;
        println!("listening http={} {}", args.http, server.summary());
        tokio::spawn(http::serve(listener, server.clone(), args.clone()));
    }
    if args.tcp != 0 {
        let listener = listen(args.tcp).await?;
        println!("listening tcp={} {}", args.tcp, server.summary());
        tokio::spawn(echo::serve(listener, server, echo::Style { greet: args.greet, raw: args.raw }));
    }
    let crash = async {
        match args.crash_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = crash => Err("crashed as asked by --crash-after".into()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => {
            println!("stopping signal=SIGTERM linger={:?}", args.linger);
            tokio::time::sleep(args.linger).await;
            Ok(())
        }
    }
}

/// Listens on every address of both families where the kernel has IPv6, else on IPv4.
async fn listen(port: u16) -> Result<tokio::net::TcpListener, String> {
    let dual = tokio::net::TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await;
    match dual {
        Ok(listener) => Ok(listener),
        Err(_) => tokio::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port))
            .await
            .map_err(|error| format!("cannot listen on port {port}: {error}; choose another with --http or --tcp")),
    }
}
