//! A server on loopback and a client for it.

use apiserver::{Config, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::sync::oneshot;

pub(crate) const ADMIN: &str = "the-admin-token";

/// A running server; it ends when this is dropped.
pub(crate) struct Lab {
    pub(crate) address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), apiserver::Error>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let server = Server::new(Config { admin_token: Some(ADMIN.into()), ..config }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(vec![listener], async {
            ended.await.ok();
        }));
        Self { address, client: Client::builder(TokioExecutor::new()).build_http(), end, task }
    }

    /// Ends the server and waits until it has let go of everything.
    pub(crate) async fn stop(self) {
        drop(self.client);
        self.end.send(()).ok();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if headers.iter().all(|(name, _)| *name != "authorization") {
            request = request.header("authorization", format!("Bearer {ADMIN}"));
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.send(method, path, headers, body).await;
        let code = response.status().as_u16();
        let warnings =
            response.headers().get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Answer { code, body, warnings }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], &body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn patch(&self, path: &str, form: &str, body: Value) -> Answer {
        self.call("PATCH", path, &[("content-type", &format!("application/{form}"))], &body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], &Value::Null).await
    }

    pub(crate) async fn namespace(&self, name: &str) {
        assert_eq!(self.post("/api/v1/namespaces", json!({"metadata": {"name": name}})).await.code, 201);
    }

    /// Waits until a path answers with this code.
    pub(crate) async fn until(&self, path: &str, code: u16) {
        let answered = async {
            while self.get(path).await.code != code {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), answered).await;
        assert!(waited.is_ok(), "{path} never answered {code}");
    }
}
