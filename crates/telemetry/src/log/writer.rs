//! The thread that writes lines, and the queue before it.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

/// Lines waiting to be written; the next one is dropped.
const QUEUE: usize = 10_000;
/// Lines written at once.
const BATCH: usize = 64;

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines of this process were dropped because the queue was full.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Message {
    Line(String),
    /// Answer once everything before it is written.
    Flush(SyncSender<()>),
}

/// Where formatted lines go; never blocks.
#[derive(Debug, Clone)]
pub(super) struct LineSender {
    queue: SyncSender<Message>,
    /// Dropped lines that the writer has not told of yet.
    missing: Arc<AtomicU64>,
}

/// Waits, when dropped, until all queued lines are written.
#[derive(Debug)]
pub struct Flush(SyncSender<Message>);

pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<(LineSender, Flush)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let missing = Arc::new(AtomicU64::new(0));
    let untold = Arc::clone(&missing);
    thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(to, &receiver, &untold))?;
    Ok((LineSender { queue: sender.clone(), missing }, Flush(sender)))
}

impl LineSender {
    pub(super) fn send(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.missing.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        if self.0.send(Message::Flush(written)).is_ok() {
            // An error means that the writer is gone, and nothing is left to wait for.
            let _ = wait.recv();
        }
    }
}

fn write_lines(mut to: impl Write, lines: &Receiver<Message>, untold: &AtomicU64) {
    while let Ok(first) = lines.recv() {
        let mut text = String::new();
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(lines.try_iter().take(BATCH - 1)) {
            match message {
                Message::Line(line) => text.push_str(&line),
                Message::Flush(written) => flushed.push(written),
            }
        }
        let missing = untold.swap(0, Ordering::Relaxed);
        if missing > 0 {
            text.push_str(&format!(
                "{:.6}\twarn\tlog\tlines dropped because nobody reads fast enough\tcount={missing}\n",
                jiff::Timestamp::now()
            ));
        }
        // There is nobody to tell when stdout itself is gone.
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        for written in flushed {
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier, Mutex};

    #[derive(Clone)]
    struct Slow {
        gate: Arc<Barrier>,
        opened: bool,
        written: Arc<Mutex<String>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.opened {
                self.gate.wait();
                self.opened = true;
            }
            self.written.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_holds_nobody_up() {
        let (gate, written) = (Arc::new(Barrier::new(2)), Arc::new(Mutex::new(String::new())));
        let (lines, flush) = start(Slow { gate: gate.clone(), opened: false, written: written.clone() }).unwrap();
        for number in 0..QUEUE + 2 * BATCH {
            lines.send(format!("{number}\n"));
        }
        assert!(dropped() > 0, "the queue is bounded");
        gate.wait();
        drop(flush);
        let written = written.lock().unwrap();
        assert!(written.starts_with("0\n1\n2\n"));
        assert!(written.contains("\tlines dropped"), "the writer tells what is missing");
    }
}
