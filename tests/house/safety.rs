//! Safety: where `unsafe` may stand, and that nothing but a test panics.
//!
//! The workspace's clippy lints refuse most of this too. Here it also holds for
//! code inside macros, for crates that forget to inherit the lints, and where
//! clippy does not run.

use super::source::Source;
use super::{Finding, every_source, lines_found};

/// The only room that may.
const UNSAFE_ROOM: &str = "datapath/src/sys/";

const PANICS: [&str; 4] = ["panic", "todo", "unimplemented", "dbg"];
const PRINTS: [&str; 4] = ["print", "println", "eprint", "eprintln"];

fn unsafe_in_its_room(source: &Source) -> Vec<Finding> {
    if source.path.starts_with(UNSAFE_ROOM) {
        return Vec::new();
    }
    let tokens = source.tokens.iter().filter(|token| token.text == "unsafe");
    tokens.map(|token| Finding::at(source, token.line, format!("`unsafe` outside {UNSAFE_ROOM}"))).collect()
}

/// Tools may print and give up; benches and tests are not shipped.
fn neither_panics_nor_prints(source: &Source) -> Vec<Finding> {
    if !matches!(source.folder(), "datapath" | "control") || source.path.starts_with("datapath/fuzz/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| !source.is_test(token.line)) {
        let is_macro = source.reads(index + 1, &["!"]) && !source.reads(index + 1, &["!", "="]);
        let name = token.text.as_str();
        if is_macro && (PANICS.contains(&name) || PRINTS.contains(&name)) {
            findings.push(Finding::at(source, token.line, format!("`{name}!` outside tests and tools")));
        }
        if matches!(name, "unwrap" | "unwrap_err")
            && index > 0
            && matches!(source.tokens[index - 1].text.as_str(), "." | ":")
        {
            findings.push(Finding::at(
                source,
                token.line,
                format!("`{name}` outside tests: an error, or `expect` with the reason"),
            ));
        }
    }
    findings
}

/// A silenced lint says why.
fn silence_has_a_reason(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        let is_silence = matches!(token.text.as_str(), "allow" | "expect") && source.reads(index + 1, &["("]);
        let is_attribute = index > 1
            && source.reads(index - 1, &["["])
            && matches!(source.tokens[index - 2].text.as_str(), "#" | "!");
        if is_silence && is_attribute {
            let end = source.tokens[index + 1].partner;
            if !(index..end).any(|at| source.reads(at, &["reason", "="])) {
                findings.push(Finding::at(source, token.line, "a lint is silenced without a `reason`"));
            }
        }
    }
    findings
}

#[test]
fn unsafe_stays_in_its_room() {
    every_source(unsafe_in_its_room);
}

#[test]
fn unsafe_elsewhere_is_found() {
    let code = "//! The word unsafe.\n#![forbid(unsafe_code)]\nfn a() { let b = \"unsafe\"; }\nmacro_rules! c { () => { unsafe { 1 } } }\n";
    assert_eq!(lines_found(unsafe_in_its_room, "datapath/src/ring/mod.rs", code), [4]);
    assert_eq!(lines_found(unsafe_in_its_room, "datapath/src/system.rs", "unsafe fn a() {}"), [1]);
    assert_eq!(lines_found(unsafe_in_its_room, "datapath/src/sys/mod.rs", code), [0; 0]);
}

#[test]
fn the_libraries_neither_panic_nor_print() {
    every_source(neither_panics_nor_prints);
}

#[test]
fn a_panic_or_a_print_is_found() {
    let lines = [
        "a.unwrap();",
        "panic!(\"a\");",
        "todo!()",
        "unimplemented!()",
        "println!(\"a\")",
        "eprintln!()",
        "dbg!(a)",
    ];
    let lines = [&lines[..], &["b.map(Option::unwrap)", "write!(a, \"{}\", b.unwrap())"]].concat();
    for line in lines {
        let code = format!("//! A.\nfn a() {{\n{line}\n}}\n");
        assert_eq!(lines_found(neither_panics_nor_prints, "datapath/src/disk.rs", &code), [3], "{line}");
        assert_eq!(lines_found(neither_panics_nor_prints, "tools/src/main.rs", &code), [0; 0], "{line}");
    }
    let fine = "#[cfg(test)]\n#[allow(a)]\nmod tests {\nfn a() { b.unwrap() }\n}\nfn c() { a.unwrap_or(1); panic != b; }\n";
    assert_eq!(lines_found(neither_panics_nor_prints, "control/src/lib.rs", fine), [0; 0]);
    let not = "#[cfg(not(test))]\nfn a() { b.unwrap() }\n";
    assert_eq!(lines_found(neither_panics_nor_prints, "control/src/lib.rs", not), [2]);
}

#[test]
fn silenced_lints_say_why() {
    every_source(silence_has_a_reason);
}

#[test]
fn a_lint_silenced_without_a_reason_is_found() {
    let code =
        "#![allow(a)]\n#[expect(b, reason = \"c\")]\nfn d() { e.expect(\"f\"); }\n#[allow(g)]\nfn h() {}\n";
    assert_eq!(lines_found(silence_has_a_reason, "a/src/b.rs", code), [1, 4]);
}
