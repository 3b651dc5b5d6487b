//! How a container is asked whether it is well, and what runs when it starts and stops.

use crate::int_or_string::IntOrString;
use crate::macros::object;

object! {
    /// A repeated check. An absent number has Kubernetes' default: period 10 s, timeout 1 s, failures 3, successes 1.
    pub struct Probe {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        grpc: Option<GrpcAction>,
        initial_delay_seconds: i32,
        timeout_seconds: i32,
        period_seconds: i32,
        success_threshold: i32,
        failure_threshold: i32,
        termination_grace_period_seconds: Option<i64>,
    }

    /// A command that succeeds with exit code 0.
    pub struct ExecAction {
        command: Vec<String>,
    }

    /// A GET that succeeds with a status from 200 to 399.
    pub struct HttpGetAction {
        path: String,
        port: IntOrString,
        host: String,
        scheme: String,
        http_headers: Vec<HttpHeader>,
    }

    /// A header of a probe.
    pub struct HttpHeader {
        name: String,
        value: String,
    }

    /// A connect that succeeds when accepted.
    pub struct TcpSocketAction {
        port: IntOrString,
        host: String,
    }

    /// The standard gRPC health call.
    pub struct GrpcAction {
        port: i32,
        service: String,
    }

    /// A pause.
    pub struct SleepAction {
        seconds: i64,
    }

    /// What runs after start and before stop.
    pub struct Lifecycle {
        post_start: Option<LifecycleHandler>,
        pre_stop: Option<LifecycleHandler>,
        stop_signal: String,
    }

    /// One action of a [`Lifecycle`].
    pub struct LifecycleHandler {
        exec: Option<ExecAction>,
        http_get: Option<HttpGetAction>,
        tcp_socket: Option<TcpSocketAction>,
        sleep: Option<SleepAction>,
    }
}
