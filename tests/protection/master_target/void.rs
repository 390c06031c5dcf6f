//! A final point is final as long as its source stands still.

use std::thread::sleep;
use std::time::Duration;

use failback_datapath::ring;
use failback_datapath::wire::CutKind;
use serde_json::{Value, json};

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

const BYTES: usize = 1 << 20;

/// What is told of a point, by its number.
fn point(home: &Home, epoch: usize) -> Value {
    let mut listed = home.run(&["points", "list", "web-1/root"]).expect_success().summary();
    listed["points"][epoch - 1].take()
}

fn is_final(point: &Value) -> bool {
    assert_eq!(point["kind"], "final", "{point}");
    point["void"] == json!(false)
}

#[test]
fn a_final_point_is_void_once_its_source_goes_on() {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    let mut random = Random::new();
    let first = Model::mixed(BYTES, &mut random);
    let mut second = first.clone();
    second.scribble(20, &mut random);
    home.start();
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&first.bytes).await;
        visitor.cut(CutKind::Final, "going home").await;
        assert!(is_final(&point(&home, 1)));
        // It was thawed before it was confirmed, and goes on.
        visitor.send_changes(&first.bytes, &second.bytes).await;
        while is_final(&point(&home, 1)) {
            sleep(Duration::from_millis(20));
        }
        visitor.cut(CutKind::Crash, "").await;
        assert!(!is_final(&point(&home, 1)));
        let epoch = visitor.cut(CutKind::Final, "going home after all").await;
        visitor.fence(epoch).await;
    })
    .expect("a ring");
    assert!(!is_final(&point(&home, 1)) && is_final(&point(&home, 3)));
    home.run(&["points", "rewind", "web-1/root", "1"]).expect_success();
    assert!(is_final(&point(&home, 3)), "a rewind is no change of the source");
    home.run(&["points", "commit", "web-1/root"]).expect_success();
    home.run(&["master-target", "unfence", "web-1/root"]).expect_success();
    ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        visitor.synchronize(&second.bytes).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    assert!(is_final(&point(&home, 3)), "what comes after a commit is of another generation");
    assert!(!is_final(&point(&home, 1)));
}
