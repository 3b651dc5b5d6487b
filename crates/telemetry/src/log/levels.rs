//! Which events are logged: a level for everything and others for some scopes, changeable at run time.

use parking_lot::Mutex;
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    reload,
};

/// `<level>` and `<scope>=<level>`, separated by commas; `<scope>:<level>` is understood too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    default: LevelFilter,
    scopes: BTreeMap<String, LevelFilter>,
}

/// Why a text is not [`Directives`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a log level: write off, error, warn, info, debug or trace, alone or as scope=level, separated by commas"
)]
pub struct DirectivesError(String);

/// The levels in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Levels {
    filter: reload::Handle<Targets, Registry>,
    initial: Directives,
    current: Arc<Mutex<Directives>>,
}

impl Directives {
    fn silent() -> Self {
        Self { default: LevelFilter::OFF, scopes: BTreeMap::new() }
    }

    /// These, changed by others: a scope named in both takes the other's level.
    fn amend(&mut self, changes: &str) -> Result<(), DirectivesError> {
        let mut amended = self.clone();
        for part in changes.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || DirectivesError(part.to_owned());
            match part.rsplit_once(['=', ':']) {
                None => amended.default = part.parse().map_err(|_| wrong())?,
                Some((scope, level)) => {
                    let level = level.trim().parse().map_err(|_| wrong())?;
                    let scope = scope.trim();
                    if scope.is_empty() || scope.ends_with(':') {
                        return Err(wrong());
                    }
                    amended.scopes.insert(scope.to_owned(), level);
                }
            }
        }
        *self = amended;
        Ok(())
    }

    fn targets(&self) -> Targets {
        Targets::new().with_default(self.default).with_targets(self.scopes.clone())
    }
}

impl FromStr for Directives {
    type Err = DirectivesError;

    fn from_str(text: &str) -> Result<Self, DirectivesError> {
        let mut directives = Self::silent();
        directives.amend(text)?;
        Ok(directives)
    }
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scope, level) in &self.scopes {
            write!(f, "{scope}={level},")?;
        }
        self.default.fmt(f)
    }
}

impl Levels {
    pub(super) fn new(initial: Directives) -> (Self, reload::Layer<Targets, Registry>) {
        let (layer, filter) = reload::Layer::new(initial.targets());
        (Self { filter, current: Arc::new(Mutex::new(initial.clone())), initial }, layer)
    }

    /// The levels in force.
    pub fn show(&self) -> String {
        self.current.lock().to_string()
    }

    /// Changes some levels; the others stay. Nothing changes when a part cannot be understood.
    pub fn set(&self, changes: &str) -> Result<(), DirectivesError> {
        let mut current = self.current.lock();
        current.amend(changes)?;
        self.apply(&current);
        Ok(())
    }

    /// Back to the levels of the start.
    pub fn reset(&self) {
        let mut current = self.current.lock();
        *current = self.initial.clone();
        self.apply(&current);
    }

    fn apply(&self, directives: &Directives) {
        if let Err(error) = self.filter.reload(directives.targets()) {
            tracing::error!("changing log levels: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tracing::Level;

    #[rstest]
    #[case("info", "info")]
    #[case("warn,access=debug,hbone::pool=off", "access=debug,hbone::pool=off,warn")]
    #[case("info,access:debug", "access=debug,info")]
    #[case("info,hbone::pool:trace", "hbone::pool=trace,info")]
    #[case("INFO, access = DEBUG ,", "access=debug,info")]
    fn understood(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(text.parse::<Directives>().unwrap().to_string(), shown);
    }

    #[rstest]
    #[case("verbose")]
    #[case("access=loud")]
    #[case("=info")]
    #[case("access::info")]
    fn not_understood(#[case] text: &str) {
        assert!(text.parse::<Directives>().is_err(), "{text}");
    }

    #[test]
    fn levels_change_and_go_back() {
        let (levels, layer) = Levels::new("info".parse().unwrap());
        let _held = layer;
        levels.set("access:debug").unwrap();
        assert_eq!(levels.show(), "access=debug,info");
        assert!(levels.set("error,access=loud").is_err());
        assert_eq!(levels.show(), "access=debug,info", "a bad part changes nothing");
        assert!(levels.filter.with_current(|targets| targets.would_enable("access", &Level::DEBUG)).unwrap());
        levels.reset();
        assert!(!levels.filter.with_current(|targets| targets.would_enable("access", &Level::DEBUG)).unwrap());
    }
}
