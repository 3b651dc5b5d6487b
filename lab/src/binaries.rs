//! What a cluster is made of: Debian's container runtime, and Kubernetes, CoreDNS and the pause program built from their Go modules.
//!
//! Built programs are kept in `$XDG_CACHE_HOME/ambit/lab` (or `~/.cache`), named by a digest of what they were built
//! from, so that only a change of version builds again.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian packages, each with a file that shows it is there.
const PACKAGES: [(&str, &str); 6] = [
    ("containerd", "/usr/bin/containerd"),
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "/usr/sbin/iptables"),
    ("nftables", "/usr/sbin/nft"),
    ("conntrack", "/usr/sbin/conntrack"),
];

/// Programs that were built here.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    /// Every component of Kubernetes, by its first argument.
    pub(crate) kubernetes: PathBuf,
    pub(crate) coredns: PathBuf,
    pub(crate) pause: PathBuf,
    /// Kubernetes' own test image's program.
    pub(crate) agnhost: PathBuf,
}

/// Installs and builds what is missing. The first time takes minutes.
pub(crate) fn prepare() -> Result<Binaries> {
    install_packages()?;
    let cache = cache()?;
    let kubernetes = Module::open("kubernetes")?;
    let flags = version_flags(&kubernetes.go_mod)?;
    Ok(Binaries {
        agnhost: kubernetes.build(&cache, "agnhost", "k8s.io/kubernetes/test/images/agnhost", "")?,
        kubernetes: kubernetes.build(&cache, "kubernetes", ".", &flags)?,
        coredns: Module::open("coredns")?.build(&cache, "coredns", ".", "")?,
        pause: Module::open("pause")?.build(&cache, "pause", ".", "")?,
    })
}

fn install_packages() -> Result<()> {
    let missing: Vec<_> =
        PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(" "));
    let mut update = Command::new("apt-get");
    run(update.args(["update", "--quiet=2"]), "reading the package lists")?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "--yes", "--quiet=2", "--no-install-recommends"]).args(&missing);
    run(&mut install, "installing the container runtime")
}

fn cache() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep what is built"),
    };
    let cache = base.join("ambit/lab");
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache)
}

/// A Go module of this crate.
struct Module {
    folder: PathBuf,
    go_mod: String,
}

impl Module {
    fn open(name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("go").join(name);
        let path = folder.join("go.mod");
        let go_mod = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { folder, go_mod })
    }

    /// Builds a package of the module, or finds it built.
    fn build(&self, cache: &Path, name: &str, package: &str, flags: &str) -> Result<PathBuf> {
        // A package of a module that is required does not depend on our own lines.
        let own = package == ".";
        let source = if own { fs::read(self.folder.join("main.go")).context("reading main.go")? } else { Vec::new() };
        let target = cache.join(format!("{name}-{}", digest(&[self.go_mod.as_bytes(), &source, flags.as_bytes()])));
        if target.exists() {
            return Ok(target);
        }
        eprintln!("building {name} (once)");
        let unfinished = target.with_extension("unfinished");
        let mut go = Command::new("go");
        go.current_dir(&self.folder).env("CGO_ENABLED", "0");
        go.args(["build", "-trimpath", "-ldflags", &format!("-s -w {flags}"), "-o"]).arg(&unfinished).arg(package);
        run(&mut go, &format!("building {name}"))?;
        fs::rename(&unfinished, &target).with_context(|| format!("keeping {}", target.display()))?;
        Ok(target)
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Linker flags by which the components know their version; without them they refuse each other as version 0.0.
fn version_flags(go_mod: &str) -> Result<String> {
    let version = go_mod.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    let version = version.context("go.mod does not require k8s.io/kubernetes")?.trim();
    let minor = version.split('.').nth(1).context("a version of Kubernetes has three parts")?;
    let mut flags = Vec::new();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", version),
            ("gitMajor", "1"),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", "module"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        ] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    Ok(flags.join(" "))
}

fn run(command: &mut Command, doing: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{doing}: {program} cannot be started"))?;
    ensure!(status.success(), "{doing} failed ({program}: {status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_the_version_that_go_mod_requires() {
        let flags = version_flags("require (\n\tk8s.io/kubernetes v1.34.4\n)\n").unwrap();
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.4"));
        assert!(flags.contains("gitMinor=34"));
        assert!(version_flags("module x").is_err());
    }

    #[test]
    fn parts_are_told_apart_by_the_digest() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
