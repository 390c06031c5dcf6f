//! Words: one word for one idea, and none for places outside the repository.

use super::source::{Source, Tree};
use super::{Finding, every_source, lines_found, settle};

/// Names under which anything can be put away.
const FORBIDDEN_MODULES: [&str; 11] = [
    "util",
    "utils",
    "utility",
    "utilities",
    "common",
    "manager",
    "managers",
    "helper",
    "helpers",
    "misc",
    "stuff",
];

/// Private ground: a reader of the repository has none of it. In two halves, so
/// that this file does not find itself.
const FORBIDDEN_PLACES: [(&str, &str); 9] = [
    ("/wo", "rk/"),
    ("sha", "red/design"),
    ("sha", "red/facts"),
    ("../sha", "red"),
    ("desi", "gn.md"),
    ("fac", "ts.md"),
    ("failback-", "rules.md"),
    ("issues ", "show"),
    ("/tmp/", "house"),
];

fn module_names(source: &Source) -> Vec<Finding> {
    let named_by_path = source.path.trim_end_matches(".rs").split('/').map(|part| (1, part));
    let tokens = source.tokens.iter().enumerate();
    let declared = tokens.filter(|(index, _)| *index > 0 && source.tokens[index - 1].text == "mod");
    let declared = declared.map(|(_, token)| (token.line, token.text.as_str()));
    let all = named_by_path.chain(declared).filter(|(_, name)| FORBIDDEN_MODULES.contains(name));
    all.map(|(line, name)| Finding::at(source, line, format!("`{name}` says nothing: name what it holds")))
        .collect()
}

/// A disk's two ends are the source and the target, everywhere.
fn source_and_target(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens.iter().filter(|token| names_an_end_short(&token.text));
    let what = |name: &str| format!("`{name}`: say source and target");
    tokens.map(|token| Finding::at(source, token.line, what(&token.text))).collect()
}

fn names_an_end_short(identifier: &str) -> bool {
    if !identifier.starts_with(|first: char| first.is_alphabetic() || first == '_')
        || identifier.contains('"')
    {
        return false;
    }
    let mut words = String::new();
    for letter in identifier.chars() {
        if letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    // SHOUTED names come apart into letters: they are read whole as well.
    let lower = identifier.to_lowercase();
    words.split('_').chain(lower.split('_')).any(|word| matches!(word, "src" | "dst"))
}

fn places(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for place in FORBIDDEN_PLACES.map(|(first, second)| format!("{first}{second}")) {
            if line.contains(&place) {
                findings.push(Finding::new(
                    path,
                    number,
                    format!("`{place}` is not part of this repository"),
                ));
            }
        }
    }
    findings
}

#[test]
fn modules_are_named_after_what_they_hold() {
    every_source(module_names);
}

#[test]
fn a_module_named_after_nothing_is_found() {
    assert_eq!(lines_found(module_names, "datapath/src/disk/helper.rs", "//! A.\nmod utils { }\n"), [1, 2]);
    assert_eq!(lines_found(module_names, "datapath/src/common/mod.rs", "//! A.\nmod vmdk;\n"), [1]);
}

#[test]
fn ends_are_source_and_target() {
    every_source(source_and_target);
}

#[test]
fn shortened_ends_are_found() {
    let short = ["src", "dst_disk", "read_src", "SrcDisk", "OpenDst", "DST_MAX", "'src"];
    for name in short {
        let code = format!(
            "//! A \"src\" in words.\n{}\n",
            if name.starts_with('\'') { format!("&{name} str") } else { name.into() }
        );
        assert_eq!(lines_found(source_and_target, "a/src/b.rs", &code), [2], "{name}");
    }
    for name in ["source", "targets", "\"/src/\"", "resource", "b'd'"] {
        assert_eq!(lines_found(source_and_target, "a/src/b.rs", name), [0; 0], "{name}");
    }
}

#[test]
fn nothing_points_outside_the_repository() {
    settle(&Tree::here().texts.iter().flat_map(|(path, text)| places(path, text)).collect::<Vec<_>>());
}

#[test]
fn a_place_outside_the_repository_is_found() {
    for (first, second) in FORBIDDEN_PLACES {
        assert!(
            !places("README.md", &format!("Fine.\nSee {first}{second}.\n")).is_empty(),
            "{first}{second}"
        );
    }
    assert!(places("README.md", "A network/worker, a design, facts.\n").is_empty());
}
