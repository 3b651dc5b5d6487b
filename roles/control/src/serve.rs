//! Everything that the control plane listens for: xDS and certificates over gRPC, pages and metrics over HTTP, webhooks.

mod caller;
mod certificates;
mod debug;
mod gate;
mod grpc;
mod pages;
mod tls;
mod webhook;

pub use caller::{Authenticator, BoundPod, Caller};
pub use certificates::{Certificates, Rules};
pub use debug::Debug;
pub use gate::XdsGate;
pub use grpc::{Services, plaintext, secure};
pub use pages::Pages;
pub use tls::{Serving, ServingError};
pub use webhook::serve as webhook;
