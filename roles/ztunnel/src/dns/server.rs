//! DNS listeners of one pod, over UDP and TCP: reads queries, lets `answer` decide, sends what comes of it.

use super::{
    answer::{self, Decision, Question},
    forward,
    names::Asker,
};
use crate::{config::Mode, pod::Pod, proxy::Proxy};
use hickory_proto::op::ResponseCode;
use model::Workload;
use rand::seq::SliceRandom;
use runtime::task;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time,
};

/// Queries of one socket that are answered at a time; more are dropped, and resolvers ask again.
const MAX_QUERIES: usize = 1024;
/// Silence after which a TCP client is let go.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Largest datagram that is read.
const MAX_DATAGRAM: usize = 4096;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Answers datagrams until the pod drains.
pub(crate) async fn serve_udp(pod: Arc<Pod>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let room = Arc::new(Semaphore::new(MAX_QUERIES));
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            biased;
            () = pod.drain.draining() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer to a client that has gone comes back as an error of the socket.
                tracing::debug!("reading a DNS query: {error}");
                continue;
            }
        };
        let Ok(room) = room.clone().try_acquire_owned() else { continue };
        let (pod, socket, query) = (pod.clone(), socket.clone(), buffer[..length].to_vec());
        let guard = pod.drain.guard();
        task::spawn("dns query", async move {
            answer_datagram(&pod, &socket, client, &query).await;
            drop((guard, room));
        });
    }
}

async fn answer_datagram(pod: &Pod, socket: &UdpSocket, client: SocketAddr, query: &[u8]) {
    if let Some(Answered { bytes, payload }) = answer(pod, Protocol::Udp, query).await
        && let Err(error) = socket.send_to(&answer::fit(bytes, payload), client).await
    {
        tracing::debug!(%client, "sending a DNS answer: {error}");
    }
}

/// Answers connections until the pod drains.
pub(crate) async fn serve_tcp(pod: Arc<Pod>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MAX_QUERIES));
    loop {
        let accepted = tokio::select! {
            biased;
            () = pod.drain.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accepting a DNS connection: {error}");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(room) = room.clone().try_acquire_owned() else { continue };
        let pod = pod.clone();
        let guard = pod.drain.guard();
        task::spawn("dns connection", async move {
            // The client may go whenever it likes.
            let _ended = pod.drain.until_forced(converse(&pod, stream)).await;
            drop((guard, room));
        });
    }
}

async fn converse(pod: &Pod, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let length = match time::timeout(TCP_IDLE, stream.read_u16()).await {
            Ok(length) => length?,
            Err(_) => return Ok(()),
        };
        let mut query = vec![0; usize::from(length)];
        if time::timeout(TCP_IDLE, stream.read_exact(&mut query)).await.is_err() {
            return Ok(());
        }
        let Some(Answered { bytes, .. }) = answer(pod, Protocol::Tcp, &query).await else { return Ok(()) };
        let bytes = answer::fit(bytes, u16::MAX);
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let message = [&length.to_be_bytes()[..], &bytes].concat();
        if time::timeout(TCP_IDLE, stream.write_all(&message)).await.is_err() {
            return Ok(());
        }
    }
}

/// An answer, and what the client takes in one datagram.
struct Answered {
    bytes: Vec<u8>,
    payload: u16,
}

impl Answered {
    fn small(bytes: Vec<u8>) -> Self {
        Self { bytes, payload: answer::MIN_PAYLOAD }
    }
}

async fn answer(pod: &Pod, protocol: Protocol, query: &[u8]) -> Option<Answered> {
    let proxy = &pod.proxy;
    let Some(workload) = proxy.state.await_local_workload(&pod.info).await else {
        return answer::refusal(query, ResponseCode::ServFail).map(Answered::small);
    };
    let decision = decide(pod, &workload, query);
    match decision {
        Decision::Ignore => None,
        Decision::Reply(reply) => {
            let payload = reply.question.as_ref().map_or(answer::MIN_PAYLOAD, |question| question.payload);
            if let Some(question) = &reply.question {
                count(pod, &workload, protocol, question);
                let endpoints = reply.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                log(&workload, question, reply.service.as_deref(), reply.result, &endpoints);
            }
            Some(Answered { bytes: reply.bytes, payload })
        }
        Decision::Forward(question) => {
            count(pod, &workload, protocol, &question);
            let labels = labels(&workload, protocol, &question);
            let outcome = forward::ask(pod, protocol, query, &labels.each_ref().map(String::as_str)).await;
            let payload = question.payload;
            match outcome {
                Ok(bytes) => {
                    log(&workload, &question, None, "forwarded", "");
                    Some(Answered { bytes, payload })
                }
                Err(error) => {
                    log(&workload, &question, None, &format!("forwarding failed ({error})"), "");
                    answer::refusal(query, ResponseCode::ServFail).map(Answered::small)
                }
            }
        }
    }
}

/// What a query of the pod comes to.
pub(super) fn decide(pod: &Pod, workload: &Workload, query: &[u8]) -> Decision {
    let Proxy { config, resolver, state, .. } = &*pod.proxy;
    let asker = Asker {
        namespace: &workload.namespace,
        network: &workload.network,
        domain: &config.cluster_domain,
        preferred_namespace: config.dns.preferred_namespace.as_deref(),
        // A proxy in its workload's place has that workload's own search path.
        search: matches!(config.mode, Mode::Dedicated(_)).then_some(&*resolver.search),
    };
    let shuffle = |addresses: &mut [_]| addresses.shuffle(&mut rand::rng());
    answer::decide(&state.mesh(), asker, config.dns.ipv6, query, shuffle)
}

pub(super) fn labels(workload: &Workload, protocol: Protocol, question: &Question) -> [String; 4] {
    let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    [
        question.kind.clone(),
        protocol.as_str().to_owned(),
        known(&workload.canonical_name),
        known(&workload.canonical_revision),
    ]
}

fn count(pod: &Pod, workload: &Workload, protocol: Protocol, question: &Question) {
    let labels = labels(workload, protocol, question);
    pod.proxy.metrics.dns.requests.add(&labels.each_ref().map(String::as_str));
}

fn log(workload: &Workload, question: &Question, domain: Option<&str>, result: &str, endpoints: &str) {
    tracing::debug!(
        target: "dns",
        {
            src.workload = &*workload.name,
            src.namespace = &*workload.namespace,
            query = %question.kind,
            domain = domain.unwrap_or(&question.name),
            result,
            endpoints,
        },
        "dns query"
    );
}
