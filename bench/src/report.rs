//! The report: Markdown tables for a person to read and to keep.

use std::{collections::BTreeMap, fmt, fs, time::Duration};

use crate::{
    Extent,
    fixture::PODS,
    load::{Comparison, Round, Run},
    network::Evened,
    statistics::Summary,
    usage::Memory,
    work::Kind,
};

/// The machine, as it was before anything was started.
#[derive(Debug)]
pub(crate) struct Machine {
    processors: usize,
    kernel: String,
    load_average: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) extent: Extent,
    /// From the start of `ambit up` until it was ready.
    pub(crate) up: Duration,
    /// From the same until all pods were.
    pub(crate) ready: Duration,
    pub(crate) network: Evened,
    pub(crate) results: Vec<Comparison>,
    pub(crate) resting: BTreeMap<String, Memory>,
    pub(crate) loaded: BTreeMap<String, Memory>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processors, kernel, load_average } = &self.machine;
        let Extent { rounds, duration } = self.extent;
        let Evened { control, namespaces } = &self.network;
        writeln!(f, "{processors} processors, Linux {kernel}, load average before the start {load_average}.")?;
        writeln!(f, "{rounds} rounds of {duration:?} on each path in turns; {control} in {namespaces} namespaces.")?;
        writeln!(f, "`ambit up`: {:.1} s; with {PODS} pods ready: {:.1} s.\n", seconds(self.up), seconds(self.ready))?;
        writeln!(
            f,
            "| work | plain | mesh | × plain | spread | p50 plain | p50 mesh | × p50 | proxies' CPU | errors |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        self.results.iter().try_for_each(|result| line(f, result))?;
        writeln!(f, "\n| role | processes | RSS at rest | of it private | RSS after the load | of it private |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for (role, rest) in &self.resting {
            let loaded = self.loaded.get(role).cloned().unwrap_or_default();
            let cells = [rest.resident, rest.private, loaded.resident, loaded.private].map(megabytes);
            writeln!(f, "| {role} | {} | {} |", rest.processes, cells.join(" | "))?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, result: &Comparison) -> fmt::Result {
    let kind = result.work.kind;
    let over = |value: &dyn Fn(&Round) -> f64| Summary::of(result.rounds.iter().map(value));
    let told = |summary: Option<Summary>, unit: fn(f64) -> String| {
        summary.map_or_else(|| "–".to_owned(), |summary| unit(summary.median))
    };
    let rate_of_both = over(&|round| rate(kind, &round.mesh) / rate(kind, &round.plain));
    let spread = rate_of_both.map_or_else(|| "–".to_owned(), |s| format!("{:.2}–{:.2}", s.least, s.most));
    let cells = [
        result.work.name(),
        told(over(&|round| rate(kind, &round.plain)), rate_unit(kind)),
        told(over(&|round| rate(kind, &round.mesh)), rate_unit(kind)),
        told(rate_of_both, ratio),
        spread,
        told(over(&|round| latency(&round.plain)), micros),
        told(over(&|round| latency(&round.mesh)), micros),
        told(over(&|round| latency(&round.mesh) / latency(&round.plain)), ratio),
        told(over(&|round| cost(kind, &round.mesh)), cost_unit(kind)),
        result.rounds.iter().map(|round| round.plain.load.errors + round.mesh.load.errors).sum::<u64>().to_string(),
    ];
    writeln!(f, "| {} |", cells.join(" | "))
}

fn rate(kind: Kind, run: &Run) -> f64 {
    match kind {
        Kind::Bulk => run.load.bytes_per_second,
        Kind::Http | Kind::Connect => run.load.operations_per_second,
    }
}

/// Middle latency; nothing where there are no single requests.
fn latency(run: &Run) -> f64 {
    if run.load.p50_us > 0.0 { run.load.p50_us } else { f64::NAN }
}

/// Processor seconds of the proxies per byte, request or connection.
fn cost(kind: Kind, run: &Run) -> f64 {
    let units = match kind {
        Kind::Bulk => run.load.bytes,
        Kind::Http | Kind::Connect => run.load.operations,
    };
    run.proxy_seconds / units as f64
}

fn rate_unit(kind: Kind) -> fn(f64) -> String {
    match kind {
        Kind::Bulk => |bytes| format!("{:.1} Gb/s", bytes * 8.0 / 1e9),
        Kind::Http | Kind::Connect => |count| format!("{:.2} k/s", count / 1e3),
    }
}

fn cost_unit(kind: Kind) -> fn(f64) -> String {
    match kind {
        Kind::Bulk => |cost| format!("{:.2} s per GB", cost * 1e9),
        Kind::Http => |cost| format!("{:.0} µs per request", cost * 1e6),
        Kind::Connect => |cost| format!("{:.0} µs per connection", cost * 1e6),
    }
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

fn micros(value: f64) -> String {
    format!("{value:.0} µs")
}

fn megabytes(kilobytes: u64) -> String {
    format!("{:.1} MB", kilobytes as f64 / 1024.0)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Load, work};

    fn run(operations: u64, p50_us: f64, proxy_seconds: f64) -> Run {
        let per_second = operations as f64;
        let load =
            Load { bytes: 0, operations, errors: 1, bytes_per_second: 0.0, operations_per_second: per_second, p50_us };
        Run { load, proxy_seconds }
    }

    #[test]
    fn a_line_tells_medians_and_spread() {
        let round = |mesh| Round { plain: run(10_000, 80.0, 0.0), mesh: run(mesh, 120.0, 0.1) };
        let work = work::all("cross-node http keep-alive, 32")[0];
        let result = Comparison { work, rounds: vec![round(4_000), round(5_000), round(8_000)] };
        let shown = fmt::from_fn(|f| line(f, &result)).to_string();
        let wanted = "| cross-node http keep-alive, 32 connections | 10.00 k/s | 5.00 k/s | 0.50 | 0.40–0.80 | 80 µs | 120 µs \
                      | 1.50 | 20 µs per request | 6 |\n";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn bulk_has_no_latency() {
        let work = work::all("cross-node bulk, 1")[0];
        let mut both = [run(1, 0.0, 0.0), run(1, 0.0, 0.5)];
        for one in &mut both {
            (one.load.bytes, one.load.bytes_per_second) = (1_000_000_000, 1e9);
        }
        let [plain, mesh] = both;
        let result = Comparison { work, rounds: vec![Round { plain, mesh }] };
        let shown = fmt::from_fn(|f| line(f, &result)).to_string();
        assert!(
            shown.contains("| 8.0 Gb/s | 8.0 Gb/s | 1.00 |") && shown.contains("| – | – | – | 0.50 s per GB |"),
            "{shown}"
        );
    }
}
