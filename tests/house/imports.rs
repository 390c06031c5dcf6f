//! Imports: a room of the data path knows only the rooms above it, and the
//! control plane knows only two of them.

use super::source::{Source, Tree};
use super::{Finding, settle};

/// What `control` may know of the data path.
const CONTROL_SEES: [&str; 2] = ["unit", "contract"];

/// The rooms of the data path, in the order of its `lib.rs`.
pub fn rooms(tree: &Tree) -> Vec<String> {
    declared(tree.source("datapath/src/lib.rs").expect("the data path has a lib.rs"))
}

fn declared(library: &Source) -> Vec<String> {
    let tokens = library.tokens.iter().enumerate().filter(|(_, token)| token.text == "mod");
    tokens.map(|(index, _)| library.tokens[index + 1].text.clone()).collect()
}

/// What a path that reaches the root of a crate names there, and in which line.
struct Reach {
    name: String,
    line: usize,
}

/// Every name taken from the crate's root by `crate::` or `super::`.
fn reaches(source: &Source) -> Vec<Reach> {
    let mut found = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        let continues = index > 1 && source.reads(index - 2, &[":", ":"]);
        let starts = matches!(token.text.as_str(), "crate" | "super" | "self") && !continues;
        if !starts || !source.reads(index + 1, &[":", ":"]) {
            continue;
        }
        let mut module = if token.text == "crate" { Vec::new() } else { module_at(source, index) };
        let climbs = token.text != "self";
        if token.text == "super" {
            module.pop();
        }
        let mut at = index + 3;
        while source.reads(at, &["super", ":", ":"]) {
            module.pop();
            at += 3;
        }
        if module.is_empty() && (climbs || at > index + 3) {
            found.extend(names(source, at));
        }
    }
    found
}

/// The module that holds a token: the file's own and the inline ones around it.
fn module_at(source: &Source, index: usize) -> Vec<String> {
    let mut module = source.module();
    for at in 0..index {
        let holds = source.reads(at, &["mod"]) && source.reads(at + 2, &["{"]);
        if holds && source.tokens[at + 2].partner > index {
            module.push(source.tokens[at + 1].text.clone());
        }
    }
    module
}

/// The name at `at`, or all names of a `{…}` there.
fn names(source: &Source, at: usize) -> Vec<Reach> {
    let reach = |at: usize| Reach { name: source.tokens[at].text.clone(), line: source.tokens[at].line };
    if at >= source.tokens.len() || !source.reads(at, &["{"]) {
        return source.tokens.get(at).map(|_| reach(at)).into_iter().collect();
    }
    let end = source.tokens[at].partner;
    let mut found = Vec::new();
    let mut next = at + 1;
    while next < end {
        found.push(reach(next));
        while next < end && source.tokens[next].text != "," {
            next = source.tokens[next].partner + 1;
        }
        next += 1;
    }
    found
}

fn knows_only_rooms_above(source: &Source, rooms: &[String]) -> Vec<Finding> {
    let module = source.module();
    let Some(own) = module.first().and_then(|name| rooms.iter().position(|room| room == name)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for Reach { name, line } in reaches(source) {
        let what = match rooms.iter().position(|room| *room == name) {
            Some(room) if room <= own => continue,
            Some(_) => {
                format!("`{name}` is declared below `{}` in lib.rs: a block gets there later", rooms[own])
            }
            None => format!("`{name}` is no room that lib.rs declares"),
        };
        if !source.is_test(line) {
            findings.push(Finding::at(source, line, what));
        }
    }
    findings
}

fn control_sees(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, token) in
        source.tokens.iter().enumerate().filter(|(_, token)| token.text == "failback_datapath")
    {
        let taken = if source.reads(index + 1, &[":", ":"]) {
            names(source, index + 3)
        } else {
            names(source, index)
        };
        let wrong = taken.iter().filter(|reach| !CONTROL_SEES.contains(&reach.name.as_str()));
        let what = |name: &str| format!("control sees only {CONTROL_SEES:?} of the data path, not `{name}`");
        findings.extend(wrong.map(|reach| Finding::at(source, token.line, what(&reach.name))));
    }
    findings
}

#[test]
fn rooms_know_only_the_rooms_above_them() {
    let tree = Tree::here();
    let rooms = rooms(tree);
    let sources = tree.sources.iter().filter(|source| source.path.starts_with("datapath/src/"));
    settle(&sources.flat_map(|source| knows_only_rooms_above(source, &rooms)).collect::<Vec<_>>());
}

#[test]
fn a_room_that_knows_what_comes_later_is_found() {
    let rooms =
        declared(&Source::parse("lib.rs", "pub mod unit;\npub mod ring;\npub mod disk;\nmod wire;\n"));
    assert_eq!(rooms, ["unit", "ring", "disk", "wire"]);
    let lines = |path: &str, code: &str| -> Vec<usize> {
        knows_only_rooms_above(&Source::parse(path, code), &rooms)
            .iter()
            .map(|finding| finding.line)
            .collect()
    };
    let ring = "use crate::unit::Extent;\nuse crate::{unit, disk::Disk};\nuse super::ring;\nuse super::wire::{Frame};\n";
    assert_eq!(lines("datapath/src/ring.rs", ring), [2, 4]);
    let inside = "use super::queue;\nuse super::super::disk;\nmod a { use super::super::super::wire; use super::wire; }\n";
    assert_eq!(lines("datapath/src/ring/submit.rs", inside), [2, 3]);
    let hidden = "fn a() { write!(b, \"{}\", crate::wire::C) }\nuse crate::*;\nuse self::super::super::disk;\nuse crate::elsewhere;\n";
    assert_eq!(lines("datapath/src/ring/submit.rs", hidden), [1, 2, 3, 4]);
    let fine = "pub(crate) use self::a::B;\nuse std::io::{self};\n#[cfg(test)]\nmod tests {\nuse crate::wire::Frame;\n}\n";
    assert_eq!(lines("datapath/src/ring/mod.rs", fine), [0; 0]);
}

#[test]
fn control_sees_only_its_contract() {
    let sources = Tree::here().sources.iter().filter(|source| source.folder() == "control");
    settle(&sources.flat_map(control_sees).collect::<Vec<_>>());
}

#[test]
fn a_control_that_touches_disks_is_found() {
    let code = "use failback_datapath::unit::Extent;\nuse failback_datapath::{contract, disk};\nuse failback_datapath as path;\n";
    assert_eq!(super::lines_found(control_sees, "control/src/lib.rs", code), [2, 3]);
}
