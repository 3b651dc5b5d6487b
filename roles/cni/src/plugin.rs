//! The CNI plugin. The kubelet runs it once per pod and call: variables and a document in, a document out.
//!
//! It decides nothing that needs the API: it lets pass what can never be in the mesh, asks the agent about the rest,
//! and passes on what the plugins before it did. When the agent is away, pods of namespaces that are not in the mesh
//! (the agent leaves a list) start all the same; pods of those that are do not, for they would start unprotected.

mod ask;
mod call;

use std::io::{Read, Write};

pub use call::{Call, Refusal, answer};

/// The most that is read from the kubelet.
const LONGEST_DOCUMENT: u64 = 1 << 20;

pub(crate) fn main() -> Result<(), crate::BoxError> {
    let mut document = String::new();
    std::io::stdin().take(LONGEST_DOCUMENT).read_to_string(&mut document)?;
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let call =
        Call { command: variable("CNI_COMMAND"), netns: variable("CNI_NETNS"), args: variable("CNI_ARGS"), document };
    let (printed, outcome) = answer(&call, ask::agent);
    std::io::stdout().write_all(printed.as_bytes())?;
    outcome.map_err(Into::into)
}
