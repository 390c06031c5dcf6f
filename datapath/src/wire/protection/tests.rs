//! The bodies of frames of protection as they lie on the wire: a change here
//! breaks every peer, and needs a new version of the protocol or a field with a
//! default.

use serde::de::DeserializeOwned;

use super::*;

#[track_caller]
fn assert_golden<M: Serialize + DeserializeOwned>(body: &str) -> M {
    let message: M = serde_json::from_str(body).unwrap();
    assert_eq!(serde_json::to_string(&message).unwrap(), body);
    message
}

const POSITION: &str =
    r#"{"generation":{"incarnation":18446744073709551615,"number":2},"epoch":3,"landed":4}"#;

fn hash(digit: &str) -> String {
    digit.repeat(64)
}

#[test]
fn golden_protect() {
    let body = concat!(
        r#"{"machine":"db1","machine_identity":"dmi:4c4c","disk":"sda","disk_identity":"wwn:5000","#,
        r#""size_bytes":1073741824,"sector":512,"chunk":16384,"digest":"xxh3","position":null,"#,
        r#""intent":{"is":"synchronize","reason":"new"}}"#
    );
    let protect: Protect = assert_golden(body);
    assert_eq!(protect.intent, Intent::Synchronize { reason: "new".to_owned() });
    let known = body
        .replace("null", POSITION)
        .replace(r#"{"is":"synchronize","reason":"new"}"#, r#"{"is":"continue"}"#);
    let position = assert_golden::<Protect>(&known).position.unwrap();
    assert_eq!((position.epoch, position.landed), (Epoch(3), DeltaNumber(4)));
    // Sizes that are none are refused as the body is read.
    assert!(serde_json::from_str::<Protect>(&body.replace("16384", "16385")).is_err());
    assert!(serde_json::from_str::<Protect>(&body.replace("512", "513")).is_err());
}

#[test]
fn golden_protecting() {
    let key = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31";
    let body = format!(
        r#"{{"position":{POSITION},"manifest":"{}","chain":"{}","newest":2,"chunk":16384,"digest":"blake3","key":[{key}],"credit":8,"synchronize":false}}"#,
        hash("a"),
        hash("0")
    );
    let protecting: Protecting = assert_golden(&body);
    assert_eq!((protecting.chain, protecting.manifest), (Chain::START, Manifest([0xaa; 32])));
    assert!(serde_json::from_str::<Protecting>(&body.replace(&hash("a"), "aa")).is_err());
}

#[test]
fn golden_cut_and_point() {
    for (kind, name) in [(CutKind::Crash, "crash"), (CutKind::App, "app"), (CutKind::Final, "final")] {
        let body = format!(
            r#"{{"epoch":3,"deltas":9,"manifest":"{}","chain":"{}","kind":"{name}","name":"before-upgrade","machine_cut":{{"number":7,"disks":2}},"cut_unix_ms":1790000000000,"freeze_ms":41}}"#,
            hash("1"),
            hash("2")
        );
        assert_eq!(assert_golden::<Cut>(&body).kind, kind);
    }
    let point: Point = assert_golden(&format!(r#"{{"epoch":3,"chain":"{}"}}"#, hash("2")));
    assert_eq!(point.epoch, Epoch(3));
}

#[test]
fn golden_remark_fence_and_progress() {
    assert_golden::<Remark>(r#"{"epoch":3,"number":4,"reason":"bytes 0..4096"}"#);
    assert_golden::<Fence>(r#"{"epoch":3}"#);
    assert_golden::<Fenced>(r#"{"epoch":3}"#);
    assert_golden::<Progress>(r#"{"done_bytes":1,"total_bytes":2}"#);
}
