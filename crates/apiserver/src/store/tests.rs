//! The store keeps order, remembers the recent past, and survives a restart.

use super::*;
use serde_json::json;

fn pods() -> Arc<str> {
    "/pods".into()
}

fn put(store: &Store, name: &str, value: Value) -> Arc<Value> {
    store.write(false, |transaction| Ok(transaction.put(Key::new(&pods(), "a", name), value))).unwrap()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}")}})
}

#[test]
fn each_change_takes_the_next_revision() {
    let (store, _inbox) = Store::open(None).unwrap();
    let start = store.revision();
    let first = put(&store, "one", pod("one"));
    let second = put(&store, "two", pod("two"));
    assert_eq!(first.resource_version(), (start + 1).to_string());
    assert_eq!(second.resource_version(), (start + 2).to_string());
    assert_eq!(store.list(&pods(), Some("a")).0.len(), 2);
    assert_eq!(store.list(&pods(), Some("b")).0.len(), 0);
}

#[test]
fn a_failed_or_dry_write_leaves_nothing() {
    let (store, _inbox) = Store::open(None).unwrap();
    let start = store.revision();
    let failed: Result<()> = store.write(false, |transaction| {
        transaction.put(Key::new(&pods(), "a", "x"), pod("x"));
        Err(Status::no_such_path())
    });
    assert!(failed.is_err());
    store.write(true, |transaction| Ok(transaction.put(Key::new(&pods(), "a", "x"), pod("x")))).unwrap();
    assert_eq!((store.revision(), store.list(&pods(), None).0.len()), (start, 0));
}

#[test]
fn the_past_is_read_from_a_cursor_until_it_is_forgotten() {
    let (store, _inbox) = Store::open(None).unwrap();
    let start = store.revision();
    for _ in 0..5000 {
        put(&store, "one", pod("one"));
    }
    assert!(matches!(store.after(&pods(), start, 10), Past::Gone { .. }));
    let Past::Changes(changes) = store.after(&pods(), start + 4998, 10) else { panic!("the recent past is kept") };
    assert_eq!(changes.iter().map(|change| change.revision - start).collect::<Vec<_>>(), [4999, 5000]);
}

#[test]
fn large_objects_are_forgotten_sooner() {
    let (store, _inbox) = Store::open(None).unwrap();
    let start = store.revision();
    let mut large = pod("one");
    large["data"] = "x".repeat(10 * 1024 * 1024).into();
    for _ in 0..5 {
        put(&store, "one", large.clone());
    }
    assert!(matches!(store.after(&pods(), start, 10), Past::Gone { .. }));
    assert!(matches!(store.after(&pods(), start + 4, 10), Past::Changes(_)));
}

#[test]
fn objects_survive_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(Some(Box::new(Disk::open(folder.path()).unwrap()))).unwrap();
    let (store, inbox) = open();
    put(&store, "one", pod("one"));
    put(&store, "two", pod("two"));
    store.write(false, |transaction| Ok(transaction.remove(Key::new(&pods(), "a", "two")))).unwrap();
    let revision = store.revision();
    drop((store, inbox));
    let (store, _inbox) = open();
    assert_eq!(store.revision(), revision);
    let (objects, _) = store.list(&pods(), None);
    assert_eq!(objects.iter().map(|object| object.name()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn a_second_server_on_the_same_file_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Disk::open(folder.path()).unwrap();
    let message = Disk::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("no other server uses it"), "{message}");
}

#[test]
fn owners_are_indexed_and_their_end_is_noticed() {
    let (store, mut inbox) = Store::open(None).unwrap();
    put(&store, "owner", pod("owner"));
    let mut child = pod("child");
    child["metadata"]["ownerReferences"] = json!([{"uid": "uid-owner"}]);
    put(&store, "child", child);
    assert!(inbox.try_recv().is_err());
    assert_eq!(store.dependents("uid-owner").len(), 1);
    store.write(false, |transaction| Ok(transaction.remove(Key::new(&pods(), "a", "owner")))).unwrap();
    let item = inbox.try_recv().unwrap();
    assert!(item.gone && item.uid == "uid-owner");
    assert!(!store.has_uid("uid-owner"));
}
