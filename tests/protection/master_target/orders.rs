//! What operators order, of a master target that runs and where none does.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use failback_datapath::ring;
use failback_datapath::wire::{CutKind, Intent};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::home::Home;
use super::visitor::{Visitor, anew, hello};
use crate::fixture::{Model, Random};

const BYTES: usize = 1 << 20;

fn names(status: &Value) -> Vec<&str> {
    status["pairs"].as_array().into_iter().flatten().filter_map(|pair| pair["pair"].as_str()).collect()
}

fn status(home: &Home) -> Value {
    home.run(&["master-target", "status"]).expect_success().summary()
}

#[test]
fn pairs_come_and_go_while_it_runs() {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    home.start();
    let settings = fs::read_to_string(home.config()).expect("read");
    home.scratch().image("data.img", BYTES as u64);
    let more = format!("{settings}[[pair]]\nname = \"web-1/data\"\ntarget = \"{}\"\n", home.path("data.img"));
    fs::write(home.config(), more).expect("written");
    let reloaded = home.run(&["master-target", "reload"]).expect_success().summary();
    assert_eq!(reloaded["added"], json!(["web-1/data"]), "{reloaded}");
    assert_eq!(names(&status(&home)), ["web-1/data", "web-1/root"]);
    fs::write(home.config(), "retention = 5").expect("written");
    home.run(&["master-target", "reload"]).expect_code(3);
    fs::write(home.config(), settings).expect("written");
    home.signal(Signal::SIGHUP);
    while names(&status(&home)) != ["web-1/root"] {
        sleep(Duration::from_millis(20));
    }
    let mut disk = hello(BYTES, anew(), None);
    disk.disk = "data".to_owned();
    let refused = ring::run(Visitor::connect(&home.remote(), &disk)).expect("a ring").err();
    assert!(refused.is_some_and(|error| error.to_string().contains("needs a [[pair]]")));
}

#[test]
fn orders_are_carried_out_where_none_runs() {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    home.start();
    let early = home.run(&["master-target", "fence", "web-1/root"]).expect_code(1);
    assert!(early.stderr.contains("has no journal"), "{early}");
    let unknown = home.run(&["master-target", "fence", "web-1/data"]).expect_code(3);
    assert!(unknown.stderr.contains("no such pair"), "{unknown}");
    let content = Model::mixed(BYTES, &mut Random::new());
    let position = ring::run(async {
        let mut visitor =
            Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
        let pair = home.status();
        assert_eq!((&pair["state"], &pair["peer"]), (&json!("Reprotecting"), &json!("web-1")), "{pair}");
        visitor.synchronize(&content.bytes).await;
        assert_eq!(home.status()["progress"], json!({"done_bytes": BYTES, "total_bytes": BYTES}));
        visitor.cut(CutKind::Crash, "").await;
        let pair = home.status();
        assert_eq!(
            (&pair["state"], &pair["progress"]),
            (&json!("FailbackProtected"), &Value::Null),
            "{pair}"
        );
        visitor.position()
    })
    .expect("a ring");
    home.stop().expect_success();
    home.run(&["master-target", "fence", "web-1/root"]).expect_success();
    let fenced = status(&home);
    assert_eq!(
        (&fenced["running"], &fenced["pairs"][0]["state"]),
        (&json!(false), &json!("Fenced")),
        "{fenced}"
    );
    home.run(&["master-target", "reload"]).expect_code(6);
    home.start();
    ring::run(async {
        let again = hello(BYTES, Intent::Continue, Some(position));
        assert!(Visitor::connect(&home.remote(), &again).await.is_err(), "it is fenced");
        home.run(&["master-target", "unfence", "web-1/root"]).expect_success();
        assert!(
            Visitor::connect(&home.remote(), &again).await.is_ok_and(|visitor| !visitor.must_synchronize())
        );
    })
    .expect("a ring");
    assert!(home.target() == content.bytes);
}
