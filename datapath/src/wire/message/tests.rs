//! The bodies of control frames as they lie on the wire: a change here breaks
//! every peer, and needs a new version of the protocol or a field with a default.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

const FACTS: &str = concat!(
    r#"{"name":"/dev/sdb","kind":"block-device","size_bytes":1073741824,"live":true,"#,
    r#""storage":{"boot_id":"4f3c","files":[[65024,[843780,1]]],"traces":[]},"#,
    r#""notices":[{"name":"buffered","text":"slow"}]}"#,
);

const KEY: &str = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31";

const COUNTS: &str = concat!(
    r#"{"bytes_done":1,"bytes_read_source":2,"bytes_read_target":3,"bytes_sent":4,"bytes_written":5,"#,
    r#""bytes_zeroed":6,"chunks_differing":7,"bytes_verified":8}"#,
);

const LATENCIES: &str =
    r#"[{"stage":"read_source","count":2,"p50_us":3,"p90_us":4,"p99_us":5,"p999_us":6,"max_us":7}]"#;

/// Reads a body and writes it again.
#[track_caller]
fn assert_golden<M: Serialize + DeserializeOwned>(body: &str) -> M {
    let message: M = serde_json::from_str(body).unwrap();
    assert_eq!(serde_json::to_string(&message).unwrap(), body);
    message
}

#[test]
fn golden_open() {
    let source =
        r#"{"export":"web-1","role":"source","live":true,"dry_run":false,"create":null,"source":null}"#;
    let open: Open = assert_golden(source);
    assert!(open.role == Role::Source && open.live && open.source.is_none());
    for (create, name) in [(Create::Raw, "raw"), (Create::VmdkFlat, "vmdk-flat")] {
        let target = format!(
            r#"{{"export":"web-1","role":"target","live":false,"dry_run":true,"create":"{name}","source":{FACTS}}}"#
        );
        let open: Open = assert_golden(&target);
        assert!(open.role == Role::Target && open.dry_run && open.create == Some(create));
    }
    for kind in ["raw-image", "vmdk-flat"] {
        assert_golden::<DiskFacts>(&FACTS.replace("block-device", kind));
    }
}

#[test]
fn golden_opened() {
    let opened: Opened = assert_golden(&format!(r#"{{"disk":{FACTS},"resumed_from":67108864}}"#));
    assert_eq!((opened.resumed_from, opened.disk.size_bytes), (Some(64 << 20), 1 << 30));
    assert_golden::<Opened>(&format!(r#"{{"disk":{FACTS},"resumed_from":null}}"#));
}

#[test]
fn golden_start() {
    for (digest, compression) in [("xxh3", "auto"), ("blake3", "lz4"), ("xxh3", "zstd"), ("xxh3", "none")] {
        let body = format!(
            concat!(
                r#"{{"size_bytes":1073741824,"lanes":2,"digest":"{}","key":[{}],"#,
                r#""compare_until":18446744073709551615,"compression":"{}","rate_limit":1048576,"#,
                r#""verify":true,"dry_run":false,"whole":false,"source_name":"/dev/sda"}}"#
            ),
            digest, KEY, compression
        );
        let start: Start = assert_golden(&body);
        assert_eq!((start.lanes, start.compare_until, start.key[31]), (2, u64::MAX, 31));
        assert_golden::<Start>(&body.replace("1048576", "null"));
    }
}

#[test]
fn golden_started_and_join() {
    let session = "15,14,13,12,11,10,9,8,7,6,5,4,3,2,1,0";
    let started: Started = assert_golden(&format!(r#"{{"session":[{session}]}}"#));
    let join: Join = assert_golden(&format!(r#"{{"session":[{session}],"lane":1}}"#));
    assert_eq!((started.session, join.lane), (join.session, 1));
}

#[test]
fn golden_end_and_finished() {
    let body = format!(r#"{{"counts":{COUNTS},"latencies":{LATENCIES},"live":false}}"#);
    let end: End = assert_golden(&body);
    assert_eq!((end.counts.bytes_done, end.counts.chunks_differing), (1, 7));
    let finished: Finished = assert_golden(&body.replace(r#","live":false"#, ""));
    assert_eq!(finished.latencies, end.latencies);
    // Counters of a later version may be missing from an older one.
    let old: End = serde_json::from_str(r#"{"counts":{},"latencies":[]}"#).unwrap();
    assert_eq!(old.counts, Counts::default());
}

#[test]
fn golden_refused() {
    let codes = [
        (Code::Refused, "refused"),
        (Code::Failed, "failed"),
        (Code::Differs, "differs"),
        (Code::Interrupted, "interrupted"),
        (Code::Protocol, "protocol"),
    ];
    for (code, name) in codes {
        let body = format!(r#"{{"code":"{name}","message":"no space","unfinished_cursor":67108864}}"#);
        let refused: Refused = assert_golden(&body);
        assert_eq!(refused, Refused { code, message: "no space".into(), unfinished_cursor: Some(64 << 20) });
    }
    let newer = r#"{"code":"too-warm","message":"later","unfinished_cursor":null,"degrees":41}"#;
    let refused: Refused = serde_json::from_str(newer).unwrap();
    assert_eq!(refused.code, Code::Other);
}
