//! Another program for the same process: everything held goes on under its descriptors' numbers.
//!
//! What each number means is written into sealed memory, whose number is on the new program's command line. Workers and the
//! node agent notice a conversation that broke off and begin the next one.

use crate::{Args, Shared};
use inpod::{
    keeper,
    words::{Part, PodWords, Settings},
};
use linux::{
    inherited_fd, process,
    sealed::{Draft, Sealed},
    seqpacket::Listener,
};
use runtime::BoxError;
use serde::{Deserialize, Serialize};
use std::{
    io::Write,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::PathBuf,
};

/// Everything held, by number.
#[derive(Debug, Serialize, Deserialize)]
struct Inventory {
    settings: Option<Settings>,
    listener: RawFd,
    pods: Vec<(PodWords, Vec<RawFd>)>,
    kept: Vec<(Part, RawFd)>,
}

/// Becomes the program that is at this one's place now. Returns only if it could not, and why.
pub(crate) fn replace(args: &Args, listener: &Listener, roster: &Shared) -> BoxError {
    let mut roster = roster.lock();
    let (settings, pods, kept) = roster.proxies().parts();
    let mut handed: Vec<BorrowedFd<'_>> = vec![listener.as_fd()];
    let mut inventory = Inventory {
        settings: settings.cloned(),
        listener: listener.as_fd().as_raw_fd(),
        pods: Vec::new(),
        kept: kept.iter().map(|(part, sealed)| (*part, sealed.as_fd().as_raw_fd())).collect(),
    };
    handed.extend(kept.iter().map(|(_, sealed)| sealed.as_fd()));
    for held in &pods {
        let listeners = held.opened.listeners.iter().map(|listener| listener.socket.as_fd());
        let descriptors: Vec<_> = std::iter::once(held.namespace.as_fd()).chain(listeners).collect();
        let words = PodWords::new(held.uid.clone(), held.info.clone(), &held.opened);
        inventory.pods.push((words, descriptors.iter().map(AsRawFd::as_raw_fd).collect()));
        handed.extend(descriptors);
    }
    match write(&inventory) {
        Ok(sealed) => {
            handed.push(sealed.as_fd());
            let program = program();
            tracing::info!(program = %program.display(), pods = pods.len(), "replacing the program");
            process::replace(&program, &args.again(sealed.as_fd().as_raw_fd()), &handed).into()
        }
        Err(error) => error,
    }
}

fn write(inventory: &Inventory) -> Result<Sealed, BoxError> {
    let mut draft = Draft::new("keeper")?;
    draft.write_all(&serde_json::to_vec(inventory)?)?;
    Ok(draft.seal()?)
}

/// Where this program was started from; what is there now may be newer.
fn program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    match path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => path,
    }
}

impl Args {
    /// The command line of the program that goes on.
    fn again(&self, inventory: RawFd) -> Vec<String> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        [
            "keeper",
            "--socket",
            &path(&self.socket),
            "--agent",
            &path(&self.agent),
            "--worker-uid",
            &self.worker_uid.to_string(),
            "--inherited",
            &inventory.to_string(),
        ]
        .map(str::to_owned)
        .into()
    }
}

/// Takes over what an earlier program of this process held, and the socket on which workers come.
pub(crate) fn inherit(number: RawFd, roster: &Shared) -> Result<Listener, BoxError> {
    let sealed = Sealed::from_fd(inherited_fd(number)?)?;
    let inventory: Inventory = serde_json::from_reader(sealed.reader())?;
    let listener = Listener::from_fd(inherited_fd(inventory.listener)?)?;
    let mut roster = roster.lock();
    roster.proxies().set_settings(inventory.settings);
    for (part, number) in inventory.kept {
        roster.proxies().keep(part, Sealed::from_fd(inherited_fd(number)?)?);
    }
    for (words, numbers) in inventory.pods {
        let descriptors = numbers.into_iter().map(inherited_fd).collect::<linux::Result<Vec<_>>>()?;
        let (uid, info) = (words.uid.clone(), words.info.clone());
        roster.restore(uid, info, keeper::place(words, descriptors)?)?;
    }
    roster.proxies().given_back();
    tracing::info!(pods = roster.served().count(), "took over from an earlier program");
    Ok(listener)
}
