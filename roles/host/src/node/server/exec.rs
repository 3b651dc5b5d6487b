//! Running a command beside a container, with its streams on the channels of a WebSocket.
//!
//! A terminal is given as a pseudo-terminal, without job control and in one fixed size.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use linux::process::{Child, Exit};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::route::{ExecOptions, Target};
use super::socket::{self, Receiver, Sender};
use super::{Reply, text};
use crate::node::context::{Context, RunningContainer};

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// In version 5: the channel that the message names is closed.
const CLOSE: u8 = 255;

pub(super) fn answer(
    context: &Arc<Context>,
    request: http::Request<Incoming>,
    target: &Target,
    options: ExecOptions,
) -> Reply {
    let pod = context.running.find(&target.namespace, &target.pod);
    let Some(container) = pod.and_then(|mut pod| pod.containers.remove(&target.container)) else {
        return text(StatusCode::NOT_FOUND, format!("container {:?} does not run", target.container));
    };
    socket::accept(request, &PROTOCOLS, move |_, sender, receiver| async move {
        let status = match start(&container, &options) {
            Ok(running) => converse(running, &sender, receiver).await,
            Err(error) => internal(&error.to_string()),
        };
        sender.send(ERROR, status.to_string().as_bytes()).await;
        sender.close().await;
    })
}

/// A command that runs, and our ends of its streams.
struct Command {
    child: Child,
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    error: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl Drop for Command {
    fn drop(&mut self) {
        if let Err(error) = self.child.signal_group(Signal::SIGKILL) {
            tracing::trace!(%error, "the command has ended");
        }
    }
}

fn start(container: &RunningContainer, options: &ExecOptions) -> io::Result<Command> {
    if options.tty { start_in_terminal(container, options) } else { start_with_pipes(container, options) }
}

fn start_with_pipes(container: &RunningContainer, options: &ExecOptions) -> io::Result<Command> {
    let (output, their_output) = io::pipe()?;
    let (error, their_error) = io::pipe()?;
    let (their_input, input): (Stdio, Option<Box<dyn AsyncWrite + Send + Unpin>>) = if options.stdin {
        let (theirs, ours) = io::pipe()?;
        (theirs.into(), Some(Box::new(pipe::Sender::from_owned_fd(ours.into())?)))
    } else {
        (Stdio::null(), None)
    };
    let stdio = (their_input, their_output.into(), their_error.into());
    let child = container.plan.start_beside(container.pid, &options.command, stdio)?;
    Ok(Command {
        child,
        input,
        output: Box::new(pipe::Receiver::from_owned_fd(output.into())?),
        error: Some(Box::new(pipe::Receiver::from_owned_fd(error.into())?)),
    })
}

fn start_in_terminal(container: &RunningContainer, options: &ExecOptions) -> io::Result<Command> {
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = nix::pty::openpty(Some(&size), None)?;
    let theirs = || -> io::Result<Stdio> { Ok(OwnedFd::try_clone(&pair.slave)?.into()) };
    let stdio = (theirs()?, theirs()?, theirs()?);
    let child = container.plan.start_beside(container.pid, &options.command, stdio)?;
    let file = |fd: &OwnedFd| -> io::Result<File> { Ok(File::from_std(fd.try_clone()?.into())) };
    let input: Option<Box<dyn AsyncWrite + Send + Unpin>> =
        if options.stdin { Some(Box::new(file(&pair.master)?)) } else { None };
    Ok(Command { child, input, output: Box::new(file(&pair.master)?), error: None })
}

/// Moves the streams until the command has ended and said everything; gives the status to tell.
async fn converse(mut command: Command, sender: &Sender, mut receiver: Receiver) -> serde_json::Value {
    let mut input = command.input.take();
    let error = command.error.take();
    let output = std::mem::replace(&mut command.output, Box::new(tokio::io::empty()));
    let typed = async move {
        while let Some((channel, bytes)) = receiver.receive().await {
            match channel {
                STDIN if bytes.is_empty() => input = None,
                STDIN => {
                    if let Some(open) = &mut input
                        && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
                    {
                        input = None;
                    }
                }
                CLOSE if bytes.first() == Some(&STDIN) => input = None,
                _ => {}
            }
        }
    };
    let said = async {
        tokio::join!(copy(output, STDOUT, sender), async {
            if let Some(error) = error {
                copy(error, STDERR, sender).await;
            }
        });
    };
    let ended = async {
        let (exit, ()) = tokio::join!(command.child.wait(), said);
        exit
    };
    tokio::select! {
        exit = ended => match exit {
            Ok(exit) => status(exit),
            Err(error) => internal(&error.to_string()),
        },
        () = typed => internal("the client has left"),
    }
}

async fn copy(mut from: Box<dyn AsyncRead + Send + Unpin>, channel: u8, sender: &Sender) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        // A terminal whose other end is closed reads as an error, which is its end.
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if !sender.send(channel, &buffer[..length]).await {
                    return;
                }
            }
        }
    }
}

fn status(exit: Exit) -> serde_json::Value {
    let code = exit.code();
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

fn internal(problem: &str) -> serde_json::Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: error executing command in container: {problem}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_as_kubectl_reads_it() {
        assert_eq!(status(Exit::Code(0))["status"], "Success");
        let failed = status(Exit::Code(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0]["message"], "3");
        assert_eq!(status(Exit::Signal(9))["details"]["causes"][0]["message"], "137");
    }
}
