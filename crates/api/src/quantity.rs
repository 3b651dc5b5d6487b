//! Kubernetes' quantities: `250m`, `128Mi`, `1e3`.

use serde_json::Value;

/// A quantity in thousandths of its unit, rounded up as Kubernetes does; `None` when it cannot be read.
///
/// ```
/// assert_eq!(api::quantity::milli(&"250m".into()), Some(250));
/// assert_eq!(api::quantity::milli(&2.into()), Some(2000));
/// ```
pub fn milli(quantity: &Value) -> Option<i128> {
    match quantity {
        Value::Number(number) => parse(&number.to_string()),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// A quantity in whole units, rounded up: bytes of memory, whole processors.
pub fn whole(quantity: &Value) -> Option<i128> {
    milli(quantity).map(|milli| milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0))
}

fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, divisor) = scale(suffix)?;
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['+', '-']);
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // Longer numbers are past every limit that Kubernetes keeps.
    if integer.len() + fraction.len() > 18 || (integer.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mantissa: i128 = format!("{integer}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(1000)?.checked_mul(factor)?;
    let divisor = divisor.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let rounded = scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0);
    Some(if negative { -rounded } else { rounded })
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.unsigned_abs() <= 15)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!("250m"), Some(250))]
    #[case(json!("1"), Some(1000))]
    #[case(json!(0.5), Some(500))]
    #[case(json!("1Ki"), Some(1_024_000))]
    #[case(json!("1.5Gi"), Some(1_610_612_736_000))]
    #[case(json!("1e3"), Some(1_000_000))]
    #[case(json!("1E-3"), Some(1))]
    #[case(json!("1n"), Some(1))]
    #[case(json!("-2"), Some(-2000))]
    #[case(json!(""), None)]
    #[case(json!("1Q"), None)]
    #[case(json!("1e99"), None)]
    #[case(json!(["1"]), None)]
    fn quantities_are_read_exactly(#[case] quantity: Value, #[case] expected: Option<i128>) {
        assert_eq!(milli(&quantity), expected);
    }

    #[test]
    fn whole_units_round_up() {
        assert_eq!(whole(&json!("1500m")), Some(2));
        assert_eq!(whole(&json!("64Mi")), Some(67_108_864));
    }
}
