//! `cargo xtask gen [--check]`: Rust code from the `.proto` files, committed so that no build needs a generator.

use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// Writes the generated code, or with `check` fails when what is committed differs from what would be written.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let protos = root.join("crates/proto/protos");
    let committed = root.join("crates/proto/src/generated");
    let out = if check { root.join("target/xtask-gen") } else { committed.clone() };
    fs::create_dir_all(&out)?;
    let files: Vec<_> = fs::read_dir(&protos)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    let set = protox::compile(&files, [&protos]).context("compiling crates/proto/protos")?;
    tonic_prost_build::configure()
        .out_dir(&out)
        .compile_well_known_types(false)
        .include_file("mod.rs")
        // A content hash is taken of encoded workloads: equal ones must have equal bytes.
        .btree_map(".istio.workload.Workload.services")
        .compile_fds(set)
        .context("generating code from crates/proto/protos")?;
    if check {
        for entry in fs::read_dir(&out)? {
            let entry = entry?;
            let old = fs::read(committed.join(entry.file_name())).unwrap_or_default();
            if old != fs::read(entry.path())? {
                bail!("{} is stale: run `cargo xtask gen`", entry.file_name().to_string_lossy());
            }
        }
    }
    Ok(())
}
