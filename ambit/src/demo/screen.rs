//! How the walk is shown: numbered steps, facts under them, and whether each fact is what it must be.

use std::io::{self, IsTerminal, Write};

/// The screen, and the count of what went wrong.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
    steps: usize,
    failed_steps: usize,
    failed: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { colour: io::stdout().is_terminal(), steps: 0, failed_steps: 0, failed: false }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, title: &str) {
        self.close();
        self.steps += 1;
        let number = self.steps;
        println!("\n{}", self.paint("1", &format!("{number}. {title}")));
    }

    /// Something that was seen, for the reader to judge.
    pub(crate) fn fact(&self, label: &str, text: &str) {
        println!("   {}  {text}", self.paint("2", &format!("{label:<18}")));
        let _shown = io::stdout().flush();
    }

    /// Something that was seen and must be as it is.
    pub(crate) fn check(&mut self, label: &str, good: bool, text: &str) {
        let mark = if good { self.paint("32", "✔") } else { self.paint("31", "✘") };
        println!(" {mark} {}  {text}", self.paint("2", &format!("{label:<18}")));
        self.failed |= !good;
    }

    /// Ends the walk; `true` when every step showed what it must.
    pub(crate) fn finish(&mut self) -> bool {
        self.close();
        let good = self.steps - self.failed_steps;
        println!("\n{}", self.paint("1", &format!("{good} of {} steps showed what they must.", self.steps)));
        self.failed_steps == 0
    }

    fn close(&mut self) {
        self.failed_steps += usize::from(self.failed);
        self.failed = false;
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
