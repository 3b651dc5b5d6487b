//! Container images without a registry: one layer, one configuration, written as a tar of the OCI image layout.
//!
//! The same input gives the same bytes: no times, no owners, files in the order given.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A file of an image.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Where it is read.
    pub(crate) source: PathBuf,
    /// Its path in the image, absolute.
    pub(crate) target: String,
}

/// A dynamically linked program with its loader and libraries, as files of an image.
pub(crate) fn with_libraries(program: &Path, target: &str) -> Result<Vec<File>> {
    let told = Command::new("ldd").arg(program).output().context("asking ldd for a program's libraries")?;
    ensure!(told.status.success(), "{} has no libraries that ldd can name", program.display());
    let mut files = vec![File { source: program.to_owned(), target: target.to_owned() }];
    for path in libraries(&String::from_utf8_lossy(&told.stdout)) {
        files.push(File { source: PathBuf::from(&path), target: path });
    }
    Ok(files)
}

/// The paths in what `ldd` prints: `name => /path (0x…)` or `/path (0x…)`.
fn libraries(ldd: &str) -> Vec<String> {
    let word = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    ldd.lines().filter_map(word).collect()
}

/// Writes an image of `files` under `name` to `out`; its entry point is `entry`.
pub(crate) fn write(out: &Path, name: &str, entry: &[&str], files: &[File]) -> Result<()> {
    let layer = layer(files)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entry, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let mut listed = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
    listed["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    listed["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [listed]}))?;

    let file = fs::File::create(out).with_context(|| format!("creating {}", out.display()))?;
    let mut tar = tar::Builder::new(file);
    put(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    folder(&mut tar, "blobs", 0o755)?;
    folder(&mut tar, "blobs/sha256", 0o755)?;
    for content in [&layer, &config, &manifest] {
        let digest = sha256(content);
        put(&mut tar, &format!("blobs/{}", digest.replace(':', "/")), 0o644, content)?;
    }
    put(&mut tar, "index.json", 0o644, &index)?;
    tar.into_inner().with_context(|| format!("writing {}", out.display()))?;
    Ok(())
}

/// The file system: the files, their folders, and the few things that programs expect of one.
fn layer(files: &[File]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut made = BTreeSet::new();
    folder(&mut tar, "tmp", 0o1777)?;
    folders_of(&mut tar, &mut made, "etc/passwd")?;
    put(&mut tar, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    put(&mut tar, "etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    for file in files {
        let target = file.target.trim_start_matches('/');
        folders_of(&mut tar, &mut made, target)?;
        let content = fs::read(&file.source).with_context(|| format!("reading {}", file.source.display()))?;
        put(&mut tar, target, 0o755, &content)?;
    }
    Ok(tar.into_inner()?)
}

fn folders_of<W: Write>(tar: &mut tar::Builder<W>, made: &mut BTreeSet<String>, path: &str) -> Result<()> {
    for (end, _) in path.match_indices('/') {
        if made.insert(path[..end].to_owned()) {
            folder(tar, &path[..end], 0o755)?;
        }
    }
    Ok(())
}

fn folder<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32) -> Result<()> {
    append(tar, tar::EntryType::Directory, path, mode, &[])
}

fn put<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    append(tar, tar::EntryType::Regular, path, mode, content)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("adding {path} to an image"))
}

fn blob(media_type: &str, content: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": sha256(content), "size": content.len()})
}

fn sha256(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_image() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("program");
        fs::write(&source, "binary").unwrap();
        let files = [File { source, target: "/usr/local/bin/program".to_owned() }];
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        for path in &paths {
            write(path, "example.test/program:1", &["/usr/local/bin/program"], &files).unwrap();
        }
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
        let layer = layer(&files).unwrap();
        let mut names = Vec::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        let expected = ["tmp", "etc", "etc/passwd", "etc/group", "usr", "usr/local", "usr/local/bin"];
        assert_eq!(names[..7], expected);
        assert_eq!(names[7], "usr/local/bin/program");
    }

    #[test]
    fn libraries_are_the_absolute_paths_that_ldd_prints() {
        let told = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(libraries(told), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
    }
}
