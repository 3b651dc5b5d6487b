//! Keeping the plugin in place: its file among the node's plugins, its entry in the node's configuration. Looked at
//! again and again, because others rewrite these folders too.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::args::{AgentArgs, on_host};
use crate::conflist::{self, Conflist, PLUGIN, Target};
use crate::enrolment::EnablementSelector;
use crate::error::Error;

/// What is installed, and where.
#[derive(Debug, Clone)]
pub(crate) struct Installer {
    net_dir: PathBuf,
    bin_dir: PathBuf,
    conf_name: String,
    mode: u32,
    link: Option<PathBuf>,
    entry: Value,
}

/// What a look at the node found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was in place.
    InPlace,
    /// Something had to be put in place.
    Changed,
    /// There is no configuration to join yet.
    NoConfiguration,
}

impl Installer {
    pub(crate) fn new(args: &AgentArgs, selectors: &[EnablementSelector]) -> Self {
        Self {
            net_dir: on_host(&args.net_dir),
            bin_dir: on_host(&args.bin_dir),
            conf_name: args.conf_name.clone(),
            mode: if args.conf_group_read { 0o640 } else { 0o600 },
            link: args.plugin_link.clone(),
            entry: entry(args, selectors),
        }
    }

    /// Puts in place what is not.
    pub(crate) fn ensure(&self) -> Result<Outcome, Error> {
        let new_plugin = self.ensure_plugin()?;
        match self.wanted()? {
            None => Ok(Outcome::NoConfiguration),
            Some((_, None)) if !new_plugin => Ok(Outcome::InPlace),
            Some((_, None)) => Ok(Outcome::Changed),
            Some((source, Some(target))) => {
                self.write(&source, &target)?;
                Ok(Outcome::Changed)
            }
        }
    }

    /// The file to join, and what it should become unless it is so already.
    fn wanted(&self) -> Result<Option<(String, Option<Target>)>, Error> {
        let files = self.files()?;
        let named = |(name, _): &(&str, &str)| self.conf_name.is_empty() || *name == self.conf_name;
        let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).filter(named);
        let found = conflist::main_file(files);
        Ok(found.map(|(name, list)| (name.to_owned(), conflist::joined(name, list, &self.entry))))
    }

    fn files(&self) -> Result<Vec<(String, String)>, Error> {
        let failed = |source| Error::File { doing: "listing", path: self.net_dir.clone(), source };
        let mut files = Vec::new();
        for file in fs::read_dir(&self.net_dir).map_err(failed)?.flatten() {
            let text = fs::read_to_string(file.path());
            // What cannot be read is not a configuration for the kubelet either.
            files.extend(file.file_name().into_string().ok().zip(text.ok()));
        }
        Ok(files)
    }

    fn write(&self, source: &str, target: &Target) -> Result<(), Error> {
        let path = self.net_dir.join(&target.file);
        let old_mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777);
        replace(&path, old_mode.unwrap_or(self.mode), |new| fs::write(new, &target.text))?;
        if source != target.file {
            let old = self.net_dir.join(source);
            fs::remove_file(&old).map_err(|source| Error::File { doing: "removing", path: old, source })?;
        }
        tracing::info!("joined the CNI configuration {}", path.display());
        Ok(())
    }

    /// Makes sure that the plugin's file is this program. Returns whether it was not.
    fn ensure_plugin(&self) -> Result<bool, Error> {
        let path = self.bin_dir.join(PLUGIN);
        if let Some(link) = &self.link {
            if fs::read_link(&path).is_ok_and(|found| found == *link) {
                return Ok(false);
            }
            replace(&path, 0o755, |new| symlink(link, new))?;
            return Ok(true);
        }
        let own = PathBuf::from("/proc/self/exe");
        if same_program(&own, &path) {
            return Ok(false);
        }
        replace(&path, 0o755, |new| fs::copy(&own, new).map(drop))?;
        tracing::info!("installed the plugin {}", path.display());
        Ok(true)
    }

    /// Takes entry and plugin away.
    pub(crate) fn uninstall(&self) -> Result<(), Error> {
        for (name, text) in self.files()? {
            let Ok(list) = Conflist::read(&text) else { continue };
            let without = list.clone().without();
            if without != list {
                replace(&self.net_dir.join(&name), self.mode, |new| fs::write(new, without.text()))?;
            }
        }
        let path = self.bin_dir.join(PLUGIN);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { doing: "removing", path, source })
            }
            _ => Ok(()),
        }
    }
}

/// Our entry: what the plugin has to know.
fn entry(args: &AgentArgs, selectors: &[EnablementSelector]) -> Value {
    json!({
        "type": PLUGIN,
        "name": PLUGIN,
        "plugin_log_level": "info",
        "cni_agent_run_dir": args.run_dir,
        "ambient_enabled": true,
        "enablement_selectors": selectors,
        "exclude_namespaces": args.exclude_namespaces,
        "pod_namespace": args.pod_namespace,
        "native_nftables": true,
        "enable_ambient_detection_retry": false,
    })
}

/// Copies are told from this program by length and time: the same program again is not copied again.
fn same_program(own: &Path, installed: &Path) -> bool {
    match (fs::metadata(own), fs::metadata(installed)) {
        (Ok(own), Ok(installed)) => {
            own.len() == installed.len()
                && matches!((own.modified(), installed.modified()), (Ok(own), Ok(installed)) if own <= installed)
        }
        _ => false,
    }
}

/// Makes a file under another name in the same folder and moves it into place: nobody ever sees half of it.
fn replace(path: &Path, mode: u32, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let failed = |doing| move |source| Error::File { doing, path: path.to_owned(), source };
    let _ = fs::remove_file(&new);
    make(&new).map_err(failed("writing"))?;
    if !new.is_symlink() {
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(failed("setting the mode of"))?;
    }
    fs::rename(&new, path).map_err(failed("replacing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn installer(dir: &Path) -> Installer {
        let (net, bin) = (dir.join("net.d"), dir.join("bin"));
        fs::create_dir_all(&net).unwrap();
        fs::create_dir_all(&bin).unwrap();
        let words = ["agent", "--node-name", "n1", "--net-dir", net.to_str().unwrap()];
        let args = words.into_iter().chain(["--bin-dir", bin.to_str().unwrap(), "--plugin-link", "/opt/ambit"]);
        Installer::new(&AgentArgs::parse_from(args), &crate::enrolment::default_selectors())
    }

    #[test]
    fn installs_repairs_and_leaves_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let installer = installer(dir.path());
        assert_eq!(installer.ensure().unwrap(), Outcome::NoConfiguration);
        let conf = dir.path().join("net.d/10-base.conflist");
        let original = "{\n  \"name\": \"base\",\n  \"plugins\": [\n    {\n      \"type\": \"bridge\"\n    }\n  ]\n}\n";
        fs::write(&conf, original).unwrap();
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(installer.ensure().unwrap(), Outcome::Changed);
        assert_eq!(installer.ensure().unwrap(), Outcome::InPlace);
        assert_eq!(fs::metadata(&conf).unwrap().permissions().mode() & 0o777, 0o644, "its mode stays");
        assert_eq!(fs::read_link(dir.path().join("bin/istio-cni")).unwrap(), Path::new("/opt/ambit"));
        fs::write(&conf, original).unwrap();
        assert_eq!(installer.ensure().unwrap(), Outcome::Changed, "somebody took the entry out");
        installer.uninstall().unwrap();
        assert_eq!(fs::read_to_string(&conf).unwrap(), original);
        assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 0);
    }

    #[test]
    fn the_entry_is_the_recorded_one() {
        let dir = tempfile::tempdir().unwrap();
        let entry = installer(dir.path()).entry;
        let recorded: Value = serde_json::from_str(include_str!("../tests/fixtures/entry.json")).unwrap();
        for (key, value) in recorded.as_object().unwrap() {
            // The recorded node used iptables; empty parts were added by another library.
            if !["native_nftables", "dns", "ipam", "enablement_selectors"].contains(&key.as_str()) {
                assert_eq!(&entry[key], value, "{key}");
            }
        }
        let selectors: Vec<EnablementSelector> =
            serde_json::from_value(recorded["enablement_selectors"].clone()).unwrap();
        assert_eq!(selectors, crate::enrolment::default_selectors());
    }
}
