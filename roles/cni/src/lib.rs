//! The node role: makes pods part of the mesh.
//!
//! Two programs in one: the CNI [`mod@plugin`] that the kubelet calls for each pod, which only asks; and the [`agent`] that
//! answers. The agent decides which pods are in ([`enrolment`]), puts the rules into their network namespaces
//! ([`rules`]), tells the node proxy about them ([`proxy`]), and says on the pod what it did. Rules and connections
//! stand on their own: ending the agent changes nothing for pods that are in.

mod agent;
mod args;
mod conflist;
mod enrolment;
mod error;
mod events;
mod install;
mod netns;
mod plugin;
mod proxy;
mod rules;

pub use args::{AgentArgs, Args, Command};
pub use conflist::{Conflist, NotConflist, Target};
pub use enrolment::{Decision, EnablementSelector, Enrolment, Leave, Rules, decide};
pub use events::{Added, AddedIp, Address};
pub use plugin::{Call, Refusal, answer};
pub use proxy::{Connected, Proxies, ProxyError, Workload, acknowledgement};
pub use rules::{HostRules, PodRules, PodRulesError};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the role.
pub fn main(args: Args) -> Result<(), BoxError> {
    match args.command {
        Command::Agent(args) => agent::main(args),
        Command::Plugin => plugin(),
    }
}

/// The CNI plugin: environment and standard input in, standard output and exit status out.
pub fn plugin() -> Result<(), BoxError> {
    plugin::main()
}
