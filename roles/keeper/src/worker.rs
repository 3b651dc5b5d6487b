//! One worker's conversation: what it says is done at once, what is for it is sent in order.

use crate::{
    Shared,
    hold::{Hold, Outgoing},
};
use inpod::{
    Roster, keeper,
    words::{self, Received, ToKeeper},
};
use linux::{
    sealed::Sealed,
    seqpacket::{Listener, Stream},
};
use runtime::task;
use std::{io, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time};

/// How long a worker may take to read one message, and to say its first.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest thing that is held for a worker.
const MAX_KEPT: u64 = 1 << 30;

/// Takes on worker after worker.
pub(crate) async fn accept(listener: Arc<Listener>, roster: Shared, worker_uid: u32) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("accepting a worker: {error}");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match stream.peer_uid() {
            Ok(uid) if uid == worker_uid || uid == 0 => {
                task::spawn("worker", serve(stream, roster.clone()));
            }
            Ok(uid) => tracing::warn!(uid, "turned away: workers run as user {worker_uid}"),
            Err(error) => tracing::warn!("turned away a worker that cannot be told apart: {error}"),
        }
    }
}

async fn serve(stream: Stream, roster: Shared) {
    let pid = stream.peer_pid().unwrap_or_default();
    let first = time::timeout(PATIENCE, words::receive::<ToKeeper>(&stream)).await;
    let settings = match first {
        Ok(Ok(Some(Received { message: ToKeeper::Hello(settings), .. }))) => settings,
        Ok(Ok(None)) => return,
        other => {
            tracing::warn!(pid, "a worker did not begin with hello: {other:?}");
            return;
        }
    };
    let (number, queue) = roster.lock().proxies().greet(settings);
    tracing::info!(pid, worker = number, "worker has come");
    match converse(&stream, &roster, number, queue).await {
        Ok(()) => tracing::info!(pid, worker = number, "worker has gone"),
        Err(error) => tracing::warn!(pid, worker = number, "worker is given up: {error}"),
    }
    roster.lock().proxies().gone(number);
}

async fn converse(
    stream: &Stream,
    roster: &Shared,
    number: u64,
    mut queue: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            received = words::receive::<ToKeeper>(stream) => {
                let Some(received) = received? else { return Ok(()) };
                handle(&mut roster.lock(), number, received)?;
            }
            outgoing = queue.recv() => {
                let Some(Outgoing { message, beside }) = outgoing else {
                    return Err(io::Error::other("it reads too slowly"));
                };
                let descriptors = beside.descriptors();
                let sent = words::send(stream, &message, &descriptors);
                time::timeout(PATIENCE, sent).await.map_err(|_| io::Error::other("it does not read"))??;
            }
        }
    }
}

fn handle(
    roster: &mut Roster<Hold>,
    number: u64,
    Received { message, mut descriptors }: Received<ToKeeper>,
) -> io::Result<()> {
    match message {
        ToKeeper::Hello(_) => return Err(io::Error::other("it said hello twice")),
        ToKeeper::Holding(words) => {
            let (uid, info) = (words.uid.clone(), words.info.clone());
            let place = keeper::place(words, descriptors)?;
            if let Err(error) = roster.restore(uid, info, place) {
                tracing::warn!("a pod was not taken back: {error}");
            }
        }
        ToKeeper::Ready => {
            roster.proxies().given_back();
            roster.proxies().ready(number);
        }
        ToKeeper::Serving => roster.proxies().serving(number),
        ToKeeper::Leaving => roster.proxies().leaving(number),
        ToKeeper::Want { uid, kind, count } => roster.proxies().make(number, uid, kind, count),
        ToKeeper::Keep(part) => {
            let descriptor = descriptors.pop().ok_or_else(|| io::Error::other("nothing came to be kept"))?;
            let sealed = Sealed::from_fd(descriptor)?;
            if sealed.len() > MAX_KEPT {
                return Err(io::Error::other(format!("{} bytes are too many to keep", sealed.len())));
            }
            roster.proxies().keep(part, sealed);
        }
    }
    Ok(())
}
