//! Promises: every public error of the data path knows its remedy, and every
//! limit bounds something.

use std::collections::HashSet;

use super::source::{Source, Tree};
use super::{Finding, settle};

/// Public enums and structs that are named as errors: name, file, line.
fn errors(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, token) in source.tokens.iter().enumerate().filter(|(_, token)| !source.is_test(token.line)) {
        let is_public_type = source.reads(index, &["pub", "enum"]) || source.reads(index, &["pub", "struct"]);
        let name = source.tokens.get(index + 2).map_or("", |name| name.text.as_str());
        if is_public_type && (name.ends_with("Error") || name.ends_with("Refusal")) {
            found.push((name.to_owned(), token.line));
        }
    }
    found
}

/// The types that implement `Remediable`, by the last word of their path.
fn remediable(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for index in 0..source.tokens.len() {
        if !source.reads(index, &["Remediable", "for"]) {
            continue;
        }
        let rest = source.tokens[index + 2..].iter().map(|token| token.text.as_str());
        let path: Vec<&str> = rest.take_while(|text| !matches!(*text, "{" | "<" | "where")).collect();
        found.extend(path.last().map(|name| (*name).to_owned()));
    }
    found
}

fn errors_without_remedy(sources: &[&Source]) -> Vec<Finding> {
    let known: HashSet<String> = sources.iter().flat_map(|source| remediable(source)).collect();
    let mut findings = Vec::new();
    for source in sources {
        for (name, line) in errors(source).into_iter().filter(|(name, _)| !known.contains(name)) {
            findings.push(Finding::at(source, line, format!("`{name}` does not implement `Remediable`")));
        }
    }
    findings
}

/// Constants of `limits` that no code reads, tests aside.
fn idle_limits(limits: &Source, sources: &[&Source]) -> Vec<Finding> {
    let mut used = HashSet::new();
    for source in sources {
        for (index, token) in
            source.tokens.iter().enumerate().filter(|(_, token)| !source.is_test(token.line))
        {
            let is_declaration = index > 0 && source.reads(index - 1, &["const"]);
            if !is_declaration {
                used.insert(token.text.as_str());
            }
        }
    }
    let mut findings = Vec::new();
    for index in 0..limits.tokens.len() {
        if limits.reads(index, &["pub", "const"]) {
            let name = &limits.tokens[index + 2];
            if name.text != "fn" && !used.contains(name.text.as_str()) {
                findings.push(Finding::at(limits, name.line, format!("`{}` bounds nothing", name.text)));
            }
        }
    }
    findings
}

fn shipped(tree: &Tree) -> Vec<&Source> {
    let is_shipped = |source: &&Source| matches!(source.folder(), "datapath" | "control" | "tools");
    tree.sources.iter().filter(is_shipped).collect()
}

#[test]
fn every_error_knows_its_remedy() {
    let mut sources = shipped(Tree::here());
    sources.retain(|source| source.path.starts_with("datapath/src/"));
    settle(&errors_without_remedy(&sources));
}

#[test]
fn an_error_without_a_remedy_is_found() {
    let first = Source::parse(
        "datapath/src/a.rs",
        "pub enum ReadError {}\npub enum OpenRefusal {}\npub(crate) enum OwnError {}\n",
    );
    let second =
        Source::parse("datapath/src/b.rs", "impl crate::error::Remediable for super::a::ReadError {}\n");
    let found = errors_without_remedy(&[&first, &second]);
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn every_limit_bounds_something() {
    let tree = Tree::here();
    let limits = tree.source("datapath/src/limits.rs").expect("the data path has limits");
    settle(&idle_limits(limits, &shipped(tree)));
}

#[test]
fn a_limit_that_bounds_nothing_is_found() {
    let limits = "pub const A: u8 = 1;\npub const B: u8 = A;\npub const C: u8 = 2;\npub const fn d() {}\n";
    let limits = Source::parse("datapath/src/limits.rs", limits);
    let user =
        Source::parse("datapath/src/a.rs", "use limits::B;\n#[cfg(test)]\nmod tests {\nuse limits::C;\n}\n");
    let found = idle_limits(&limits, &[&limits, &user]);
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [3]);
}
