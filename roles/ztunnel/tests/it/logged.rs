//! The log of the proxies that a test process runs, kept as text.

use crate::lab::PATIENCE;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Instant,
};
use telemetry::log::{Format, Levels};

/// What the proxies of this process log, all together; with `RUST_LOG` set it is shown too.
pub(crate) struct Logged {
    pub(crate) levels: Levels,
    text: Arc<Mutex<Vec<u8>>>,
    _flush: telemetry::log::Log,
}

struct Keep(Arc<Mutex<Vec<u8>>>);

impl Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        if std::env::var_os("RUST_LOG").is_some() {
            io::stdout().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn logged() -> &'static Logged {
    static LOGGED: OnceLock<Logged> = OnceLock::new();
    LOGGED.get_or_init(|| {
        let text = Arc::default();
        let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| "off,access=info".to_owned());
        let log = telemetry::log::init_to(Keep(Arc::clone(&text)), Format::Plain, &directives).unwrap();
        Logged { levels: log.levels.clone(), text, _flush: log }
    })
}

impl Logged {
    /// A line of the log, once there is one that satisfies `wanted`.
    pub(crate) fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned();
            if let Some(line) = text.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
            assert!(begun.elapsed() < PATIENCE, "the line is never logged");
            thread::yield_now();
        }
    }
}
