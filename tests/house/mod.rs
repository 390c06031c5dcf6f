//! The rules of the house, checked over the source tree of all crates.
//!
//! In: the files as they lie on disk. Out: every finding at once, with file and
//! line. Invariants: each check has a test of its own that shows it failing.
//! Never: looks at what git tracks, so a new file is checked before it is added.

mod crates;
mod imports;
mod promises;
mod safety;
mod shape;
mod source;
mod words;

use std::fmt;

use source::{Source, Tree};

/// One breach of a rule.
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }

    fn at(source: &Source, line: usize, what: impl Into<String>) -> Self {
        Self::new(&source.path, line, what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with all findings, where there is one.
fn settle(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{} findings:\n{}\n", lines.len(), lines.join("\n"));
}

/// Holds every source file to one rule.
fn every_source(rule: fn(&Source) -> Vec<Finding>) {
    settle(&Tree::here().sources.iter().flat_map(rule).collect::<Vec<_>>());
}

/// The lines at which a rule finds something in a snippet.
fn lines_found(rule: fn(&Source) -> Vec<Finding>, path: &str, code: &str) -> Vec<usize> {
    rule(&Source::parse(path, code)).iter().map(|finding| finding.line).collect()
}
