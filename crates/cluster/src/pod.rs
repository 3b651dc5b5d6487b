//! Streams into pods: a port, the log, a process.

use api::Pod;
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::object::named;

/// Both directions of a connection to a port of a pod; it closes when dropped.
pub trait PortForward: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> PortForward for S {}

/// What to read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The container, when the pod has several.
    pub container: Option<String>,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<i64>,
    /// The log of the run before this one.
    pub previous: bool,
}

/// A process that was started in a container.
pub struct Process {
    /// What it writes.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// What it complains.
    pub error_output: Box<dyn AsyncRead + Send + Unpin>,
    action: String,
    attached: kube::api::AttachedProcess,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("action", &self.action).finish_non_exhaustive()
    }
}

impl Client {
    fn pods(&self, namespace: &str) -> kube::Api<KubePod> {
        kube::Api::namespaced(self.kube.clone(), namespace)
    }

    /// Connects to a port of a pod through the API server.
    pub async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<impl PortForward + use<>> {
        let action = named::<Pod>(&format!("forward port {port} of"), namespace, pod);
        let mut forwarder = self
            .pods(namespace)
            .portforward(pod, &[port])
            .await
            .map_err(|error| Error::from_kube(action.clone(), error))?;
        forwarder.take_stream(port).ok_or_else(|| Error::Stream { action, message: "no stream was opened".to_owned() })
    }

    /// Reads the log of a container as a stream of bytes.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        options: &LogOptions,
    ) -> Result<impl futures_util::AsyncBufRead + Send + use<>> {
        let parameters = LogParams {
            container: options.container.clone(),
            follow: options.follow,
            tail_lines: options.tail_lines,
            previous: options.previous,
            ..LogParams::default()
        };
        self.pods(namespace)
            .log_stream(pod, &parameters)
            .await
            .map_err(|error| Error::from_kube(named::<Pod>("read the log of", namespace, pod), error))
    }

    /// Runs a command in a container.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        command: &[String],
    ) -> Result<Process> {
        let action = named::<Pod>("run a command in", namespace, pod);
        let parameters = AttachParams {
            container: container.map(str::to_owned),
            stdout: true,
            stderr: true,
            ..AttachParams::default()
        };
        let mut attached = self
            .pods(namespace)
            .exec(pod, command, &parameters)
            .await
            .map_err(|error| Error::from_kube(action.clone(), error))?;
        let missing = || Error::Stream { action: action.clone(), message: "the server opened no output".to_owned() };
        let output = Box::new(attached.stdout().ok_or_else(missing)?);
        let error_output = Box::new(attached.stderr().ok_or_else(missing)?);
        Ok(Process { output, error_output, action, attached })
    }

    /// Gets a path of the API server itself as text: `/readyz`, `/metrics`.
    pub async fn text(&self, path: &str) -> Result<String> {
        let action = format!("get {path}");
        let request = Request::builder().method(Method::GET).uri(path).body(Vec::new());
        let request = request.map_err(|error| Error::from_kube(action.clone(), kube::Error::HttpError(error)))?;
        self.kube.request_text(request).await.map_err(|error| Error::from_kube(action, error))
    }
}

/// What a command in a container wrote, output before complaints, and whether it succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status 0.
    pub success: bool,
    /// Everything it wrote.
    pub text: String,
}

impl Output {
    /// The first line that says something.
    pub fn first_line(&self) -> &str {
        self.text.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)")
    }
}

impl Client {
    /// Runs a command in a pod's only container to its end.
    pub async fn run(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<Output> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut process = self.exec(namespace, pod, None, &command).await?;
        let (mut text, mut complaints) = (Vec::new(), Vec::new());
        let (read, complained) =
            tokio::join!(process.output.read_to_end(&mut text), process.error_output.read_to_end(&mut complaints));
        if let Err(error) = read.and(complained) {
            return Err(Error::Stream { action: process.action, message: error.to_string() });
        }
        text.extend(complaints);
        let success = process.finish().await.is_ok();
        Ok(Output { success, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The log of a pod's only container so far.
    pub async fn log(&self, namespace: &str, pod: &str) -> Result<String> {
        let mut text = String::new();
        let stream = self.logs(namespace, pod, &LogOptions::default()).await?;
        let read = futures_util::AsyncReadExt::read_to_string(&mut std::pin::pin!(stream), &mut text).await;
        let action = named::<Pod>("read the log of", namespace, pod);
        read.map_err(|error| Error::Stream { action, message: error.to_string() })?;
        Ok(text)
    }
}

impl Process {
    /// Waits for the end: `Ok` when the command succeeded. Read the outputs first.
    pub async fn finish(mut self) -> Result<()> {
        let status = match self.attached.take_status() {
            Some(status) => status.await,
            None => None,
        };
        match status {
            Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
            Some(status) => Err(Error::Stream { action: self.action, message: status.message.unwrap_or_default() }),
            None => Err(Error::Stream { action: self.action, message: "the stream ended without a result".to_owned() }),
        }
    }
}
