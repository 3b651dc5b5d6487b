//! Feeds mutated bytes to parsers, on the stable toolchain and with no instrumentation.
//!
//! A target is a function from bytes that must return, whatever the bytes, without a panic and within a second. [`run`]
//! first replays the target's corpus and every input that once broke it, then mutates them for as long as it is told
//! (`FUZZ_SECONDS`, one by default). What breaks a target is written to `fuzz/artifacts/<target>/`; move it to
//! `fuzz/corpus/<target>/` with the fix, so that it is tried for ever.

mod mutate;

pub use mutate::Mutator;

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The longest a target may take for one input.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs a target over its seeds, its corpus and mutations of both.
///
/// # Panics
/// When the target does, or takes too long; the message names the file with the input.
pub fn run(name: &str, seeds: &[&[u8]], target: impl Fn(&[u8])) {
    let mut inputs: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    inputs.extend(corpus(name));
    inputs.push(Vec::new());
    for input in &inputs {
        try_one(name, input, &target);
    }
    let mut mutator = Mutator::new(rand::random());
    let end = Instant::now() + time_allowed();
    let mut runs = inputs.len();
    while Instant::now() < end {
        let input = mutator.next(&inputs);
        try_one(name, &input, &target);
        runs += 1;
    }
    println!("{name}: {runs} inputs");
}

fn time_allowed() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

fn try_one(name: &str, input: &[u8], target: &impl Fn(&[u8])) {
    let begun = Instant::now();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = begun.elapsed();
    if outcome.is_err() || took > PATIENCE {
        let path = keep(name, input);
        let how = if outcome.is_err() { "panicked".to_owned() } else { format!("took {took:?}") };
        panic!("{name} {how}; the input is in {}", path.display());
    }
}

fn folder(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(name)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder("corpus", name)).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
}

/// Named by its content, so that the same input is kept once.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let digest = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let folder = folder("artifacts", name);
    let path = folder.join(format!("{digest:016x}"));
    if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        eprintln!("keeping the input in {}: {error}", path.display());
    }
    path
}
