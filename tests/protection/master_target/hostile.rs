//! Visitors that may connect, and lie: who they are, what they cut, what they send.

use failback_datapath::ring;
use failback_datapath::unit::DeltaNumber;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::{CutKind, Intent};

use super::home::Home;
use super::visitor::{CUT_UNIX_MS, Visitor, anew, hello};
use crate::fixture::{Model, Random};

const BYTES: usize = 1 << 20;

fn started() -> (Home, Model) {
    let mut home = Home::new(BYTES as u64, "free = \"1MiB\"");
    home.start();
    (home, Model::mixed(BYTES, &mut Random::new()))
}

async fn protect(home: &Home, content: &Model) -> Visitor {
    let mut visitor = Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
    visitor.synchronize(&content.bytes).await;
    visitor.cut(CutKind::Crash, "").await;
    visitor
}

#[test]
fn a_machine_is_known_by_its_key_and_not_by_what_it_says() {
    let (home, content) = started();
    let other = Identity::load_or_create(&home.scratch().path("other")).expect("a key");
    home.pair_with("db-7", &other);
    let file = home.scratch().path("retention/web-1/root/pair");
    ring::run(async {
        let visitor = protect(&home, &content).await;
        let fits = hello(BYTES, Intent::Continue, Some(visitor.position()));
        // Whether the machine itself is here or not.
        for visitor in [Some(visitor), None] {
            for says in [fits.clone(), hello(BYTES, anew(), None)] {
                let refused = Visitor::connect(&home.remote_of(&other), &says).await.err().expect("refused");
                let told = refused.to_string();
                let key = other.fingerprint().to_string();
                assert!(told.contains("master-target release web-1") && told.contains(&key), "{told}");
            }
            drop(visitor);
            home.alarms("nothing was changed");
        }
        let pair = String::from_utf8_lossy(&std::fs::read(&file).expect("read")).into_owned();
        assert!(
            pair.contains("\"machine_key\": \"SHA256:") && !pair.contains(&other.fingerprint().to_string())
        );
        assert!(home.target() == content.bytes);
        let welcome = Visitor::connect(&home.remote(), &fits).await.expect("welcome");
        assert!(!welcome.must_synchronize());
        // Its keys are lost, and it is paired anew.
        home.run(&["master-target", "release", "web-2"]).expect_code(3);
        let released = home.run(&["master-target", "release", "web-1"]).expect_success().summary();
        assert_eq!(released["pairs"], serde_json::json!(["web-1/root"]));
        drop(welcome);
        let welcome = Visitor::connect(&home.remote_of(&other), &fits).await.expect("welcome");
        assert!(!welcome.must_synchronize());
        drop(welcome);
        let refused = Visitor::connect(&home.remote(), &fits).await.err().expect("another one has it now");
        assert!(refused.to_string().contains("release web-1"), "{refused}");
    })
    .expect("a ring");
}

#[test]
fn a_cut_of_no_date_or_with_a_name_of_no_line_makes_no_point() {
    let (home, content) = started();
    ring::run(async {
        drop(protect(&home, &content).await);
        let long = "x".repeat(257);
        let cases = [(u64::MAX, "a"), (253_402_300_800_000, "b"), (CUT_UNIX_MS, "c\u{1b}[2J"), (1, &long)];
        for (cut_unix_ms, name) in cases {
            let mut visitor =
                Visitor::connect(&home.remote(), &hello(BYTES, anew(), None)).await.expect("welcome");
            visitor.synchronize(&content.bytes).await;
            let refused = visitor.try_cut(CutKind::App, name, cut_unix_ms).await;
            println!("{}", refused.expect_err("it makes no sense"));
        }
    })
    .expect("a ring");
    let listed = home.run(&["points", "list", "web-1/root"]).expect_success().summary();
    assert_eq!(listed["points"].as_array().map(Vec::len), Some(1), "{listed}");
    let manifest = &listed["points"][0]["manifest"];
    assert!(manifest.as_str().is_some_and(|text| text.len() == 64), "{manifest}");
}

#[test]
fn nothing_of_a_damaged_delta_is_written_and_it_goes_on_before_it() {
    let (home, content) = started();
    let mut next = content.clone();
    next.bytes[..8192].fill(0x5a);
    ring::run(async {
        let visitor = protect(&home, &content).await;
        let durable = visitor.position();
        drop(visitor);
        let again = hello(BYTES, Intent::Continue, Some(durable));
        let mut visitor = Visitor::connect(&home.remote(), &again).await.expect("welcome");
        let remark = visitor.submit_damaged(&next.bytes, &[0, 1]).await;
        assert_eq!((remark.epoch, remark.number), (durable.epoch, DeltaNumber(1)), "{remark:?}");
        visitor.end().await;
        assert!(home.target() == content.bytes, "something of it was written");
        let mut visitor = Visitor::connect(&home.remote(), &again).await.expect("welcome");
        assert_eq!(visitor.position(), durable, "something of it was counted");
        visitor.send(&next.bytes, &[0, 1]).await;
        visitor.cut(CutKind::Crash, "").await;
    })
    .expect("a ring");
    assert!(home.target() == next.bytes);
}
