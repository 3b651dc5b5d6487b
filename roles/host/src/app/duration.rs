//! Durations as people write them on a command line: `200ms`, `5s`, `2m`.

use std::time::Duration;

/// Reads `200ms`, `5s`, `2m`, `1h`; a bare number is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` does not start with a number"))?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("`{unit}` is not a unit of time; use ms, s, m or h")),
    };
    millis.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long a time"))
}

/// A latency in milliseconds, with a fraction while it is short.
pub(super) fn latency(elapsed: Duration) -> String {
    let millis = elapsed.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1}ms") } else { format!("{millis:.0}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("200ms", Some(200))]
    #[case("5s", Some(5_000))]
    #[case("7", Some(7_000))]
    #[case("2m", Some(120_000))]
    #[case("1h", Some(3_600_000))]
    #[case("", None)]
    #[case("ms", None)]
    #[case("5 s", None)]
    #[case("99999999999999999999s", None)]
    #[case("18446744073709551615h", None)]
    fn durations(#[case] text: &str, #[case] millis: Option<u64>) {
        assert_eq!(parse(text).ok().map(|d| d.as_millis()), millis.map(u128::from));
    }

    #[rstest::rstest]
    #[case(1_234, "1.2ms")]
    #[case(12_345, "12ms")]
    fn latencies(#[case] micros: u64, #[case] text: &str) {
        assert_eq!(latency(Duration::from_micros(micros)), text);
    }
}
