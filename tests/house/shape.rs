//! Shapes: how long a file and a function may be, and how a file opens.

use super::source::{Source, Tree};
use super::{Finding, every_source, lines_found, settle};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn file_length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let what = format!("{lines} lines in one file: at most {FILE_LINES_MAX}");
    if lines > FILE_LINES_MAX { vec![Finding::at(source, lines, what)] } else { Vec::new() }
}

/// Counts from `fn` to the closing brace, inside macros too.
fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        if token.text != "fn" {
            continue;
        }
        let Some(body) = body(source, index) else { continue };
        let lines = source.tokens[source.tokens[body].partner].line - token.line + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = &source.tokens[index + 1].text;
            let what = format!("{name} has {lines} lines: at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::at(source, token.line, what));
        }
    }
    findings
}

/// Where the body of the function at `index` opens; `None` where it has none.
fn body(source: &Source, index: usize) -> Option<usize> {
    let mut at = index + 1;
    // `fn(u8) -> u8` is a type, and a pattern of a macro names no function.
    if !source.tokens.get(at)?.text.starts_with(|first: char| first.is_alphabetic() || first == '_') {
        return None;
    }
    loop {
        let token = source.tokens.get(at)?;
        let is_argument = matches!(source.tokens[at - 1].text.as_str(), "<" | "," | "=");
        match token.text.as_str() {
            "{" if !is_argument => return Some(at),
            ";" | ")" | "}" | "]" => return None,
            _ => at = token.partner + 1,
        }
    }
}

fn opens_with_its_purpose(source: &Source) -> Vec<Finding> {
    let opening = source.opening();
    let says_something = opening.lines().any(|line| line.trim_start_matches("//!").trim().len() > 10);
    if says_something {
        Vec::new()
    } else {
        vec![Finding::at(source, 1, "opens without a `//!` that says what it is")]
    }
}

/// What the first screen of each room of the data path says.
fn room_docs(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in super::imports::rooms(tree) {
        let file = tree.source(&format!("datapath/src/{room}.rs"));
        let folder = tree.source(&format!("datapath/src/{room}/mod.rs"));
        let Some(source) = file.or(folder) else { continue };
        findings.extend(room_doc(source));
    }
    findings
}

fn room_doc(source: &Source) -> Vec<Finding> {
    let opening = source.opening();
    let wanted = ["In:", "Out:", "Invariants:", "Never:", "Limits:"];
    let wanted = if source.path.ends_with("/mod.rs") { &wanted[..] } else { &wanted[..4] };
    let missing = wanted.iter().filter(|word| !opening.contains(*word));
    missing.map(|word| Finding::at(source, 1, format!("its first screen does not say `{word}`"))).collect()
}

#[test]
fn files_are_short() {
    every_source(file_length);
}

#[test]
fn a_long_file_is_found() {
    let code = "//! Long.\n".to_owned() + &"const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
    assert_eq!(lines_found(file_length, "datapath/src/disk.rs", &code), [FILE_LINES_MAX + 1]);
}

#[test]
fn functions_are_short() {
    every_source(function_length);
}

#[test]
fn a_long_function_is_found_wherever_it_stands() {
    let long = "let a = || { 1 };\n".repeat(FUNCTION_LINES_MAX - 1);
    let short = "let a = || { 1 };\n".repeat(FUNCTION_LINES_MAX - 2);
    let code = format!(
        "fn outer<const N: usize>(f: fn(u8) -> u8) -> [u8; {{ 1 }}] {{\n{long}}}\nfn b() {{\n{short}}}\n"
    );
    assert_eq!(lines_found(function_length, "a/src/b.rs", &code), [1]);
    let code = format!(
        "proptest! {{\n#[test]\nfn inside(a in 0..4) {{\n{long}}}\n}}\ntrait T {{ fn none(&self); }}\n"
    );
    assert_eq!(lines_found(function_length, "a/src/b.rs", &code), [3]);
}

#[test]
fn every_file_says_what_it_is() {
    every_source(opens_with_its_purpose);
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    for code in ["", "\n", "//!\nfn a() {}\n", "/// Not of the file.\nfn a() {}\n"] {
        assert_eq!(lines_found(opens_with_its_purpose, "a/src/b.rs", code), [1], "{code:?}");
    }
    assert_eq!(lines_found(opens_with_its_purpose, "a/src/b.rs", "//! Reads disks.\n"), [0; 0]);
}

#[test]
fn every_room_shows_its_door() {
    settle(&room_docs(Tree::here()));
}

#[test]
fn a_room_without_its_words_is_found() {
    let code = "//! In: a. Out: b. Invariants: c.\n//! Never: d.\n";
    assert_eq!(lines_found(room_doc, "datapath/src/disk.rs", code), [0; 0]);
    assert_eq!(
        lines_found(room_doc, "datapath/src/disk/mod.rs", code),
        [1],
        "a folder also names its limits"
    );
    assert_eq!(lines_found(room_doc, "datapath/src/disk.rs", "//! In: a.\n").len(), 3);
}
