//! How many data-plane threads: from the setting, the container's CPU quantities and the machine.

use super::environment::ConfigError;

/// Everything that decides the number of threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizing<'a> {
    /// `ZTUNNEL_WORKER_THREADS`: a count, `N%` of the cores, or 0 for all.
    pub setting: Option<&'a str>,
    /// `concurrency` of the mesh's proxy configuration.
    pub concurrency: Option<u32>,
    /// `ZTUNNEL_RESOURCE_CPU_LIMIT`, a Kubernetes quantity.
    pub limit: Option<&'a str>,
    /// `ZTUNNEL_RESOURCE_CPU_REQUEST`, a Kubernetes quantity.
    pub request: Option<&'a str>,
    /// `ZTUNNEL_CPU_LIMIT`, cores.
    pub limit_cores: Option<&'a str>,
    /// Cores of the machine.
    pub cores: usize,
}

/// The number of data-plane threads, at least one.
pub(super) fn worker_threads(sizing: &Sizing<'_>) -> Result<usize, ConfigError> {
    let limit = quantity("ZTUNNEL_RESOURCE_CPU_LIMIT", sizing.limit)?;
    let limit = limit.or(quantity("ZTUNNEL_CPU_LIMIT", sizing.limit_cores)?);
    let request = quantity("ZTUNNEL_RESOURCE_CPU_REQUEST", sizing.request)?;
    let count = match sizing.setting {
        Some(setting) => explicit(setting, sizing.cores)?,
        None => match (sizing.concurrency, limit) {
            (Some(0), _) => sizing.cores,
            (Some(count), _) => count as usize,
            (None, Some(limit)) => limit.max(request.unwrap_or(0)),
            (None, None) => sizing.cores.div_ceil(4).max(request.unwrap_or(0)).max(2),
        },
    };
    Ok(count.max(1))
}

fn explicit(setting: &str, cores: usize) -> Result<usize, ConfigError> {
    let wrong = || ConfigError::Variable {
        name: "ZTUNNEL_WORKER_THREADS".to_owned(),
        value: setting.to_owned(),
        why: "it is a count, a percentage such as 50%, or 0 for all cores".to_owned(),
    };
    if let Some(percent) = setting.strip_suffix('%') {
        let percent: usize = percent.trim().parse().map_err(|_| wrong())?;
        return if (1..=100).contains(&percent) { Ok((cores * percent).div_ceil(100)) } else { Err(wrong()) };
    }
    match setting.parse().map_err(|_| wrong())? {
        0 => Ok(cores),
        count => Ok(count),
    }
}

/// A Kubernetes CPU quantity in whole cores, rounded up; `0` counts as not set.
fn quantity(name: &str, text: Option<&str>) -> Result<Option<usize>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || ConfigError::Variable {
        name: name.to_owned(),
        value: text.to_owned(),
        why: "it is a number of cores such as 2, 1.5 or 500m".to_owned(),
    };
    let cores = match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().map_err(|_| wrong())? / 1000.0,
        None => text.parse::<f64>().map_err(|_| wrong())?,
    };
    if !(0.0..=65536.0).contains(&cores) {
        return Err(wrong());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
    let whole = cores.ceil() as usize;
    Ok((whole > 0).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_quarter_of_many(Sizing { cores: 32, ..Sizing::default() }, 8)]
    #[case::at_least_two(Sizing { cores: 2, ..Sizing::default() }, 2)]
    #[case::request_above_a_quarter(Sizing { request: Some("3500m"), cores: 8, ..Sizing::default() }, 4)]
    #[case::limit_rules(Sizing { limit: Some("1500m"), cores: 64, ..Sizing::default() }, 2)]
    #[case::limit_below_request(Sizing { limit: Some("1"), request: Some("2"), cores: 64, ..Sizing::default() }, 2)]
    #[case::core_count_as_fallback(Sizing { limit_cores: Some("3"), cores: 64, ..Sizing::default() }, 3)]
    #[case::percent(Sizing { setting: Some("50%"), cores: 7, ..Sizing::default() }, 4)]
    #[case::all(Sizing { setting: Some("0"), cores: 7, ..Sizing::default() }, 7)]
    #[case::fixed(Sizing { setting: Some("5"), limit: Some("1"), cores: 7, ..Sizing::default() }, 5)]
    #[case::concurrency_wins_over_auto(Sizing { concurrency: Some(6), limit: Some("1"), cores: 7, ..Sizing::default() }, 6)]
    fn counts(#[case] sizing: Sizing<'_>, #[case] expected: usize) {
        assert_eq!(worker_threads(&sizing), Ok(expected));
    }

    #[rstest]
    #[case(Sizing { setting: Some("half"), cores: 2, ..Sizing::default() })]
    #[case(Sizing { setting: Some("0%"), cores: 2, ..Sizing::default() })]
    #[case(Sizing { limit: Some("-1"), cores: 2, ..Sizing::default() })]
    #[case(Sizing { request: Some("2Gi"), cores: 2, ..Sizing::default() })]
    fn nonsense_is_refused(#[case] sizing: Sizing<'_>) {
        assert!(worker_threads(&sizing).is_err());
    }
}
