//! Lists: selectors, pages and tables.

use crate::server::Lab;
use rstest::rstest;
use serde_json::{Value, json};

async fn lab() -> Lab {
    let lab = Lab::start().await;
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let map = json!({"metadata": {"name": name, "labels": {"app": app}}, "data": {"k": "v"}});
        assert_eq!(lab.post("/api/v1/namespaces/default/configmaps", map).await.code, 201);
    }
    lab
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[rstest]
#[case("", &["a", "b", "c"])]
#[case("?labelSelector=app%3Dx", &["a", "b"])]
#[case("?labelSelector=app%20notin%20(x)", &["c"])]
#[case("?fieldSelector=metadata.name%3Db", &["b"])]
#[tokio::test]
async fn selectors_narrow_a_list(#[case] query: &str, #[case] expected: &[&str]) {
    let list = lab().await.get(&format!("/api/v1/namespaces/default/configmaps{query}")).await.body;
    assert_eq!((list["kind"].as_str(), names(&list)), (Some("ConfigMapList"), expected.to_vec()));
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let lab = lab().await;
    let path = "/api/v1/namespaces/default/configmaps?limit=2";
    let first = lab.get(path).await.body;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(1)));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = lab.get(&format!("{path}&continue={token}")).await.body;
    assert_eq!((names(&second), second["metadata"].get("continue")), (vec!["c"], None));
    assert_eq!(lab.get(&format!("{path}&continue=nonsense")).await.code, 400);
}

#[rstest]
#[case("?resourceVersion=0", 200)]
#[case("?resourceVersion=1&resourceVersionMatch=NotOlderThan", 200)]
#[case("?resourceVersion=1&resourceVersionMatch=Exact", 410)]
#[case("?resourceVersion=99999999999999", 504)]
#[case("?resourceVersion=abc", 400)]
#[case("?labelSelector=a%20b", 400)]
#[tokio::test]
async fn lists_are_of_the_present(#[case] query: &str, #[case] code: u16) {
    assert_eq!(lab().await.get(&format!("/api/v1/configmaps{query}")).await.code, code);
}

#[tokio::test]
async fn a_table_has_a_row_for_each_object() {
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = lab().await.call("GET", "/api/v1/namespaces/default/configmaps", &accept, &Value::Null).await.body;
    assert_eq!((table["kind"].as_str(), table["rows"].as_array().unwrap().len()), (Some("Table"), 3));
    assert_eq!(table["columnDefinitions"][1]["name"], "Data");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let lab = lab().await;
    lab.delete("/api/v1/namespaces/default/configmaps?labelSelector=app%3Dx").await;
    assert_eq!(names(&lab.get("/api/v1/namespaces/default/configmaps").await.body), ["c"]);
}
