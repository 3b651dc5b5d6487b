//! Children with namespaces of their own.

use std::process::Stdio;

use linux::netns::NetNs;
use linux::process::{Command, Exit, Place, Signal};
use linux::{mount, sysctl};

use crate::lab;

#[tokio::test]
async fn a_child_lives_where_it_is_told_to() {
    if !lab::may() {
        return;
    }
    let ns = NetNs::new_anonymous().unwrap();
    let dir = std::env::temp_dir().join(format!("process-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("kept")).unwrap();
    std::os::unix::fs::symlink("kept", dir.join("link")).unwrap();
    let shadowed = dir.clone();
    let script = format!(
        "test $$ = 1 && test $(hostname) = inner && test $(ls /proc | grep -c '^[0-9]') -lt 9 \
         && touch {0}/new && test -d {0}/link/ && readlink /proc/self/ns/net > {0}/kept/ns",
        dir.display()
    );
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script])
        .net(ns.clone())
        .mount(Place::New)
        .new_pid_namespace()
        .hostname("inner")
        .mount_proc()
        .set_up(move || {
            mount::make_private()?;
            mount::shadow(&shadowed)
        })
        .stdio(Stdio::null(), Stdio::inherit(), Stdio::inherit())
        .die_with_parent()
        .spawn()
        .unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Code(0));
    let lived = std::fs::read_to_string(dir.join("kept/ns")).unwrap();
    assert_eq!(lived.trim(), format!("net:[{}]", ns.id().inode));
    assert!(!dir.join("new").exists(), "what is created in a shadow stays there");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_child_can_be_ended_with_its_group() {
    let mut child = Command::new("/bin/sh").args(["-c", "sleep 1000 & wait"]).new_session().spawn().unwrap();
    child.signal_group(Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().await.unwrap(), Exit::Signal(15));
    assert_eq!(child.wait().await.unwrap().code(), 143);
    child.signal(Signal::SIGTERM).unwrap();
}

#[test]
fn a_missing_program_is_named() {
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert!(error.to_string().starts_with("could not run /no/such/program: "), "{error}");
}

#[test]
fn settings_are_those_of_the_namespace() {
    if !lab::may() {
        return;
    }
    let ns = NetNs::new_anonymous().unwrap();
    sysctl::write(&ns, "net.ipv4.ip_forward", "1").unwrap();
    assert_eq!(sysctl::read(&ns, "net.ipv4.ip_forward").unwrap(), "1");
    assert!(sysctl::write(&ns, "net.ipv4.no_such_thing", "1").is_err());
    assert!(sysctl::write(&ns, "net/../../tmp/x", "1").is_err());
}
