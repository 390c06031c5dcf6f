//! Over a real sshd: nothing of a URL is executed, and paths arrive as they are.

use std::fs;

use crate::fixture::{Failback, Model, Need, Random, Scratch, Sshd, assert_same_bytes, need};

use super::hosts::{path_text, sync};

const SIZE: usize = (2 << 20) + 4096;

const NEEDS: [Need; 3] = [Need::Program("sshd"), Need::Program("ssh"), Need::Program("ssh-keygen")];

/// Names that a shell, or an option parser, would do something with.
const NAMES: [&str; 9] = [
    "two words",
    "it's \"quoted\"",
    "$(touch x)",
    "`touch x`",
    "-oProxyCommand=touch x",
    "--help",
    "a;touch x;b|touch x&touch x\n",
    "%20 %2e %h",
    "~*?[a]{b,c}\\",
];

#[test]
fn any_path_is_pushed_to_and_pulled_from_as_it_is() {
    let Some(()) = need(&NEEDS) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let sshd = Sshd::start(&scratch);
    // What were executed would leave its file in one of these.
    let account = scratch.folder("account");
    let source = scratch.path("source");
    for name in NAMES {
        let model = Model::mixed(SIZE, &mut random);
        model.save(&source);
        let far = scratch.path(&format!("far/{name}"));
        scratch.folder("far");
        let url = sshd.url(&far);
        let run = |from: &str, to: &str, options: &[&str]| {
            let run = sync(&scratch, from, to, options).programs(&sshd.programs());
            run.environment("HOME", &account).run().expect_success()
        };
        run(path_text(&source), &url, &["--create", "--verify", "--format", "raw"]);
        assert_same_bytes(&source, &far, SIZE as u64);
        let near = scratch.path("near");
        run(&url, path_text(&near), &["--create"]);
        assert_same_bytes(&source, &near, SIZE as u64);
        fs::remove_file(near).expect("it is there");
    }
    assert_nothing_was_executed(&scratch);
}

#[test]
fn no_url_becomes_an_option_of_ssh() {
    let Some(()) = need(&NEEDS) else { return };
    let scratch = Scratch::new();
    let sshd = Sshd::start(&scratch);
    let source = scratch.image("source", 1 << 20);
    for url in [
        "ssh://-oProxyCommand=touch%20x/disk",
        "ssh://-oProxyCommand=touch x/disk",
        "ssh://-oProxyCommand=touch x@127.0.0.1/disk",
        "ssh://$(touch x)/disk",
        "ssh://a b/disk",
        "ssh://user;touch x@127.0.0.1/disk",
        "ssh://127.0.0.1:22 -oProxyCommand=x/disk",
        "ssh://127.0.0.1:-1/disk",
        "ssh:///disk",
    ] {
        let outcome = sync(&scratch, path_text(&source), url, &[]).programs(&sshd.programs()).run();
        assert_eq!(outcome.code(), Some(2), "{outcome}");
    }
    for program in ["failback; touch x", "$(touch x)", "-x", ""] {
        let url = sshd.url(&scratch.path("far"));
        let options = ["--remote-failback", program];
        let outcome = sync(&scratch, path_text(&source), &url, &options).programs(&sshd.programs()).run();
        assert_eq!(outcome.code(), Some(2), "{outcome}");
    }
    assert_nothing_was_executed(&scratch);
}

#[test]
fn what_fails_over_ssh_says_so() {
    let Some(()) = need(&NEEDS) else { return };
    let scratch = Scratch::new();
    let sshd = Sshd::start(&scratch);
    let source = scratch.image("source", 1 << 20);
    let run = |url: &str, options: &[&str]| {
        sync(&scratch, path_text(&source), url, options).programs(&sshd.programs()).run()
    };
    // There is no such disk.
    let outcome = run(&sshd.url(&scratch.path("far")), &[]).expect_code(3);
    assert!(outcome.stdout.contains("untouched"), "{outcome}");
    // There is no failback.
    let outcome = run(&sshd.url(&source), &["--remote-failback", "no-failback-here"]).expect_code(6);
    assert!(outcome.stderr.contains("not found"), "{outcome}");
    // There is no host.
    run("ssh://127.0.0.1:1/disk", &[]).expect_code(6);
    // There is no ssh.
    let outcome = run(&sshd.url(&source), &["--ssh", "no-ssh-here"]).expect_code(3);
    assert!(outcome.stdout.contains("no-ssh-here"), "{outcome}");
}

#[test]
fn a_server_without_an_ssh_client_ends() {
    let scratch = Scratch::new();
    // Standard input is empty.
    let outcome = Failback::new(&scratch, ["serve", "--stdio"]).run();
    assert!(outcome.code() != Some(0) && outcome.stdout.len() < 100, "{outcome}");
}

fn assert_nothing_was_executed(scratch: &Scratch) {
    for folder in ["", "account", "far"] {
        assert!(!scratch.path(folder).join("x").exists(), "something was executed in {folder:?}");
    }
    assert!(!fs::exists("x").expect("this folder is readable"), "something was executed here");
}
