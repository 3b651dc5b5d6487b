//! A pool of threads with one single-threaded tokio runtime each: what starts on a core stays there.

use crate::BoxError;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use telemetry::metrics::threads::Thread;
use tokio::{runtime::Handle, sync::watch};

/// The pool. Dropping it stops the threads; what they still run is dropped where it stands.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads named `<name>-<n>`.
    pub fn start(name: &str, count: usize) -> Result<Self, BoxError> {
        let stop = watch::Sender::new(false);
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for index in 0..count.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut stopped = stop.subscribe();
            let thread = thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                // An error means that the pool is gone, which is the same wish.
                let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
                runtime.shutdown_timeout(Duration::from_millis(100));
            })?;
            threads.push(thread);
        }
        Ok(Self { handles, threads, stop, next: AtomicUsize::new(0) })
    }

    /// How many threads.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// One thread's runtime; numbers beyond the last begin again at the first.
    pub fn handle(&self, index: usize) -> &Handle {
        &self.handles[index % self.handles.len()]
    }

    /// How busy each thread is.
    pub fn measure(&self) -> Vec<Thread> {
        let measure = |handle: &Handle| {
            let metrics = handle.metrics();
            Thread {
                tasks: metrics.num_alive_tasks(),
                queued: metrics.global_queue_depth(),
                // A runtime of one thread has one worker, the first.
                busy: metrics.worker_total_busy_duration(0),
                parks: metrics.worker_park_count(0),
                park_unparks: metrics.worker_park_unpark_count(0),
            }
        };
        self.handles.iter().map(measure).collect()
    }

    /// The next thread's runtime, in turn.
    pub fn next_handle(&self) -> &Handle {
        self.handle(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked outside any task");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_on_its_thread() {
        let workers = Workers::start("test", 2).unwrap();
        let (report, reports) = std::sync::mpsc::channel();
        for index in 0..4 {
            let report = report.clone();
            workers.handle(index).spawn(async move {
                tokio::task::yield_now().await;
                let thread = thread::current();
                report.send((index, thread.name().unwrap_or_default().to_owned())).unwrap();
            });
        }
        for (index, thread) in (0..4).map(|_| reports.recv().unwrap()) {
            assert_eq!(thread, format!("test-{}", index % 2));
        }
    }
}
