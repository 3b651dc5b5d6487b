//! The page of the reference is what the code says: flags, environment, `MeshConfig`.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use clap::{CommandFactory, Parser};
use control::mesh_config::fields::{Effect, FIELDS};
use std::{fmt::Write, path::Path};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    _args: control::Args,
}

const HEAD: &str = "# Settings of the control plane

Flags and environment are read once at the start. `MeshConfig` is read from the file of `--meshConfig` while that exists, else from
ConfigMap `istio` (`istio-<revision>` for a revision), key `mesh`, over the one that `SHARED_MESH_CONFIG` names; it is followed while
the control plane runs. A field that is not known, that has another shape or that has no effect here is named in a warning, and the
rest holds.

## Flags and environment

| Flag | Variable | Default | Meaning |
|---|---|---|---|
";

const FIELDS_HEAD: &str = "
## MeshConfig

| Field | Shape | Default | Acts | Meaning |
|---|---|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let command = Command::command();
    let (hidden, shown): (Vec<_>, Vec<_>) = command.get_arguments().partition(|argument| argument.is_hide_set());
    for argument in shown {
        let Some(flag) = argument.get_long() else { continue };
        let variable = argument.get_env().map(|name| format!("`{}`", name.display())).unwrap_or_default();
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.display().to_string()).collect();
        let help = argument.get_help().unwrap().to_string();
        writeln!(page, "| `--{flag}` | {variable} | {} | {help} |", defaults.join(",")).unwrap();
    }
    let ignored: Vec<_> = hidden.iter().filter_map(|argument| Some(format!("`--{}`", argument.get_long()?))).collect();
    writeln!(page, "\nTaken without effect, because installations pass them: {}.", ignored.join(", ")).unwrap();
    page.push_str(FIELDS_HEAD);
    for field in FIELDS {
        let acts = match field.effect {
            Effect::Live => "at once".to_owned(),
            Effect::AtStart => "from the next start".to_owned(),
            Effect::Gateways => "for waypoints and gateways".to_owned(),
            Effect::None(why) => format!("not: {why}"),
        };
        let default = if field.default.is_empty() { String::new() } else { format!("`{}`", field.default) };
        let (name, shape, meaning) = (field.name, field.shape.name(), field.meaning);
        writeln!(page, "| `{name}` | {shape} | {default} | {acts} | {meaning} |").unwrap();
    }
    page
}

#[test]
fn the_page_of_the_reference_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/control-plane.md");
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if held != page() && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
        return;
    }
    assert!(held == page(), "{} is out of date; run this test with UPDATE_DOCS=1", path.display());
}
