//! A connection to an API server: where it is, who we are, and one request and its answer.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::Resource;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::path::{Scope, with_query};
use crate::store::Watched;

/// How long an answer may take; watches and streams are not waited for in this way.
const ANSWER: Duration = Duration::from_secs(60);

/// Where to learn how to reach an API server, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `KUBECONFIG`, else the pod's own account, else the home directory's file.
    ///
    /// The account comes before the file, because a pod on one host may see the home directory of the user who started it.
    #[default]
    Infer,
    /// A kubeconfig file, and the context in it when not the current one.
    Kubeconfig {
        /// The file; `None` is the usual one.
        path: Option<PathBuf>,
        /// The context; `None` is the file's current one.
        context: Option<String>,
    },
    /// The text of a kubeconfig.
    Text(String),
    /// The pod's own account: `KUBERNETES_SERVICE_HOST` and the mounted token.
    InCluster,
}

/// A connection to an API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pub(crate) kube: kube::Client,
    /// How watched objects are trimmed, by their type: a `fn(&mut T)` each.
    trims: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// Watches that somebody holds: who follows the same scope shares them.
    pub(crate) watches: Arc<Mutex<HashMap<(TypeId, Scope), Box<dyn Watched>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the configuration. The first request makes the connection, so this succeeds without a server.
    pub async fn connect(source: &Source) -> Result<Self> {
        let config = configuration(source).await?;
        let kube =
            kube::Client::try_from(config).map_err(|error| Error::Configuration { message: error.to_string() })?;
        Ok(Self { kube, trims: Arc::default(), watches: Arc::default() })
    }

    /// The same connection, whose watches keep no more of each object than `trim` leaves: for kinds of which there are
    /// too many to be kept whole.
    #[must_use]
    pub fn trimming<T: Resource>(self, trim: fn(&mut T)) -> Self {
        let mut trims = (*self.trims).clone();
        trims.insert(TypeId::of::<T>(), Arc::new(trim));
        // Watches of objects that are kept whole are others.
        Self { trims: Arc::new(trims), watches: Arc::default(), ..self }
    }

    pub(crate) fn trim<T: Resource>(&self) -> fn(&mut T) {
        let trim = self.trims.get(&TypeId::of::<T>()).and_then(|trim| trim.downcast_ref::<fn(&mut T)>());
        trim.copied().unwrap_or(|_| {})
    }

    /// Like [`Self::connect`], with the current context of a kubeconfig file.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self> {
        Self::connect(&Source::Kubeconfig { path: Some(path.to_owned()), context: None }).await
    }

    /// The namespace to use when none is said.
    pub fn default_namespace(&self) -> &str {
        self.kube.default_namespace()
    }

    /// The server's version, as `/version` gives it.
    pub async fn server_version(&self) -> Result<Value> {
        self.request("ask for the server's version", Method::GET, "/version".to_owned(), None).await
    }

    /// Sends one request and reads JSON. `action` says what is being done, for the error.
    pub(crate) async fn request(
        &self,
        action: impl Into<String>,
        method: Method,
        path: String,
        body: Option<(&'static str, Value)>,
    ) -> Result<Value> {
        let action = action.into();
        let request = match request(method, path, body) {
            Ok(request) => request,
            Err(error) => return Err(Error::from_kube(action, kube::Error::HttpError(error))),
        };
        match tokio::time::timeout(ANSWER, self.kube.request(request)).await {
            Ok(answer) => answer.map_err(|error| Error::from_kube(action, error)),
            Err(_) => {
                let silence = format!("no answer within {} s", ANSWER.as_secs());
                Err(Error::from_kube(action, kube::Error::Service(silence.into())))
            }
        }
    }

    /// Like [`Self::request`], for one typed object.
    pub(crate) async fn request_object<T: Resource>(
        &self,
        action: impl Into<String>,
        method: Method,
        path: String,
        body: Option<(&'static str, Value)>,
    ) -> Result<T> {
        Ok(T::from_value(self.request(action, method, path, body).await?)?)
    }
}

/// Media type of an object.
pub(crate) const JSON: &str = "application/json";

fn request(method: Method, path: String, body: Option<(&'static str, Value)>) -> Result<Request<Vec<u8>>, http::Error> {
    let request = Request::builder().method(method).uri(path).header(http::header::ACCEPT, JSON);
    match body {
        Some((media_type, value)) => {
            request.header(http::header::CONTENT_TYPE, media_type).body(value.to_string().into_bytes())
        }
        None => request.body(Vec::new()),
    }
}

/// The path of a write, with the options that every write takes.
pub(crate) fn write_path(path: String, query: &[(&str, String)]) -> String {
    with_query(path, query)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

async fn configuration(source: &Source) -> Result<kube::Config> {
    let wrong = |error: &dyn std::error::Error| Error::Configuration { message: error.to_string() };
    match source {
        Source::Infer if is_set("KUBERNETES_SERVICE_HOST") && !is_set("KUBECONFIG") => {
            kube::Config::incluster().map_err(|error| wrong(&error))
        }
        Source::Infer => {
            kube::Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(|error| wrong(&error))
        }
        Source::InCluster => kube::Config::incluster().map_err(|error| wrong(&error)),
        Source::Text(text) => {
            let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| wrong(&error))?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(&error))
        }
        Source::Kubeconfig { path, context } => {
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            let Some(path) = path else {
                return kube::Config::from_kubeconfig(&options).await.map_err(|error| wrong(&error));
            };
            let kubeconfig = Kubeconfig::read_from(path)
                .map_err(|error| Error::Configuration { message: format!("{}: {error}", path.display()) })?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(&error))
        }
    }
}
