//! What clients send to the embedded API.

use crate::text;
use apiserver::fuzzing;

#[test]
fn api_requests() {
    let seeds: [&[u8]; 3] = [
        b"/apis/apps/v1/namespaces/a/deployments/b/scale?watch=true&labelSelector=app%3Dx%2Cy+in+(a,b),!z",
        b"/api/v1/pods?fieldSelector=spec.nodeName%3Dn1,metadata.name!%3Da%5C,b",
        b"app=a,tier notin (x,y),count>2,!gone",
    ];
    fuzz::run("api_requests", &seeds, |bytes| fuzzing::request(&text(bytes)));
}

#[test]
fn patches() {
    let seeds: [&[u8]; 3] = [
        br#"[{"a":[1,2],"b":{}},[{"op":"add","path":"/a/1","value":3},{"op":"move","from":"/b","path":"/c~1d"}]]"#,
        br#"[{"spec":{"containers":[{"name":"a"}]}},{"spec":{"$setElementOrder/containers":[{"name":"b"}],"containers":[{"name":"b","$patch":"delete"}]}}]"#,
        br#"[{"a":{"b":1}},{"a":null,"c":{"d":[1]}}]"#,
    ];
    fuzz::run("patches", &seeds, fuzzing::patches);
}

#[test]
fn custom_resources() {
    let seeds: [&[u8]; 2] = [
        br#"[{"type":"object","properties":{"a":{"type":"integer","minimum":1,"default":2},"l":{"type":"array","items":{"type":"object","properties":{"k":{"type":"string","pattern":"^a+$"}}},"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"]}}},{"a":0,"l":[{"k":"b"}],"x":1}]"#,
        br#"[{"type":"object","oneOf":[{"required":["a"]},{"not":{"anyOf":[{"required":["b"]}]}}]},{"a":1}]"#,
    ];
    fuzz::run("custom_resources", &seeds, fuzzing::custom_resource);
}

#[test]
fn binary_objects() {
    let seeds: [&[u8]; 2] = [
        b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x10\x0a\x03\x0a\x01a\x12\x09\x0a\x07\x0a\x01v\x12\x02\x12\x00",
        b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x07\x0a\x05\x0a\x03abc",
    ];
    fuzz::run("binary_objects", &seeds, fuzzing::binary_object);
}

#[test]
fn column_paths() {
    let seeds: [&[u8]; 2] = [b".status.conditions[?(@.type==\"Ready\")].status", b".a['b.c'][0][*].d\\.e"];
    fuzz::run("column_paths", &seeds, |bytes| fuzzing::column_path(&text(bytes)));
}
