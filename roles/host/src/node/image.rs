//! What an image name stands for here: there are three, and none is ever fetched.

use std::path::Path;

use api::Container;

/// Why a container has no program to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "image {0:?} cannot be fetched: pods run as processes of this machine, so an image is one of ambit.local/app \
         (the demo application), ambit.local/ambit (any part of Ambit) or host (a program of this machine, named by \
         command)"
    )]
    Unknown(String),
    #[error("image host runs a program of this machine: say which in command")]
    NoCommand,
}

impl Error {
    /// The reason of the container's waiting state.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "ErrImagePull",
            Self::NoCommand => "CreateContainerConfigError",
        }
    }
}

/// The program and its first arguments, before `args`: what an image's entry point is, or `command` instead.
pub(super) fn entry_point(container: &Container, ambit: &Path) -> Result<Vec<String>, Error> {
    let ambit = || ambit.to_string_lossy().into_owned();
    let own = match name(&container.image) {
        "ambit.local/app" => vec![ambit(), "app".to_owned()],
        "ambit.local/ambit" => vec![ambit()],
        "host" => Vec::new(),
        _ => return Err(Error::Unknown(container.image.clone())),
    };
    match (container.command.is_empty(), own.is_empty()) {
        (false, _) => Ok(container.command.clone()),
        (true, false) => Ok(own),
        (true, true) => Err(Error::NoCommand),
    }
}

/// The image without its tag or digest: all versions are the running binary's.
fn name(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("ambit.local/app", &[], Some("/x/ambit app"))]
    #[case("ambit.local/app:v2", &[], Some("/x/ambit app"))]
    #[case("ambit.local/ambit@sha256:00", &[], Some("/x/ambit"))]
    #[case("ambit.local/app", &["sleep", "9"], Some("sleep 9"))]
    #[case("host", &["/bin/cat"], Some("/bin/cat"))]
    #[case("host", &[], None)]
    #[case("nginx", &["nginx"], None)]
    #[case("registry:5000/host", &["x"], None)]
    fn images(#[case] image: &str, #[case] command: &[&str], #[case] expected: Option<&str>) {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let container = Container { image: image.to_owned(), command, ..Container::default() };
        let found = entry_point(&container, Path::new("/x/ambit")).ok();
        assert_eq!(found.map(|words| words.join(" ")).as_deref(), expected);
    }

    #[test]
    fn an_unknown_image_is_told_what_there_is() {
        let text = Error::Unknown("nginx".to_owned()).to_string();
        assert!(["nginx", "ambit.local/app", "ambit.local/ambit", "host"].iter().all(|name| text.contains(name)));
    }
}
