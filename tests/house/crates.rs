//! Crates: tools → control → datapath, and nothing points back.

use std::process::Command;

use serde_json::Value;

use super::source::Tree;
use super::{Finding, settle};

/// Each package and the packages of this repository that it may use. A package
/// that is not here has no place yet.
const ARROWS: [(&str, &[&str]); 8] = [
    ("failback-datapath", &[]),
    ("failback-datapath-fuzz", &["failback-datapath"]),
    ("failback-control", &["failback-datapath"]),
    ("failback", &["failback-control", "failback-datapath"]),
    ("failback-tests", &["failback-control", "failback-datapath", "failback"]),
    ("failback-benches", &["failback-control", "failback-datapath", "failback"]),
    ("failback-peers", &["failback-control", "failback-datapath", "failback"]),
    ("failback-protection", &["failback-control", "failback-datapath", "failback"]),
];

/// What is shipped inherits the workspace's lints.
const SHIPPED: [&str; 3] = ["datapath", "control", "tools"];

/// One package with all packages that it names: to run, to build, to test.
struct Package {
    name: String,
    uses: Vec<String>,
}

fn packages(metadata: &Value) -> Vec<Package> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let package = |package: &Value| Package {
        name: text(&package["name"]),
        uses: list(&package["dependencies"]).iter().map(|dependency| text(&dependency["name"])).collect(),
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

fn arrows(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::new(
                "Cargo.toml",
                1,
                format!("`{}` has no place in the house yet", package.name),
            ));
            continue;
        };
        for used in package.uses.iter().filter(|used| used.starts_with("failback")) {
            if !allowed.contains(&used.as_str()) {
                let what = format!("`{}` must not use `{used}`", package.name);
                findings.push(Finding::new("Cargo.toml", 1, what));
            }
        }
    }
    findings
}

fn inherits_lints(folder: &str, manifest: &str) -> Vec<Finding> {
    let manifest_without_blanks = manifest.replace(' ', "");
    if manifest_without_blanks.contains("[lints]\nworkspace=true") {
        return Vec::new();
    }
    vec![Finding::new(&format!("{folder}/Cargo.toml"), 1, "does not inherit the workspace's lints")]
}

fn forbids_unsafe(path: &str, text: &str) -> Vec<Finding> {
    if text.contains("#![forbid(unsafe_code)]") {
        return Vec::new();
    }
    vec![Finding::new(path, 1, "does not say `#![forbid(unsafe_code)]`")]
}

#[test]
fn arrows_point_one_way() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(&Tree::here().root).output();
    let output = output.expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packages = packages(&serde_json::from_slice(&output.stdout).expect("cargo prints JSON"));
    assert!(packages.len() >= 5, "cargo named only {} packages", packages.len());
    settle(&arrows(&packages));
}

#[test]
fn an_arrow_that_points_back_is_found() {
    let json = r#"{"packages": [
        {"name": "failback-datapath", "dependencies": [{"name": "libc"}, {"name": "failback-control", "kind": "dev"}]},
        {"name": "failback", "dependencies": [{"name": "failback-datapath"}]},
        {"name": "failback-attic", "dependencies": []}]}"#;
    let found = arrows(&packages(&serde_json::from_str(json).expect("valid JSON")));
    let found: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        found,
        [
            "`failback-datapath` must not use `failback-control`",
            "`failback-attic` has no place in the house yet"
        ]
    );
}

#[test]
fn shipped_crates_inherit_the_lints() {
    let tree = Tree::here();
    let manifest = |folder: &str| tree.text(&format!("{folder}/Cargo.toml")).unwrap_or_default();
    settle(&SHIPPED.iter().flat_map(|folder| inherits_lints(folder, manifest(folder))).collect::<Vec<_>>());
}

#[test]
fn control_and_tools_forbid_unsafe() {
    let tree = Tree::here();
    let roots = ["control/src/lib.rs", "tools/src/main.rs"];
    settle(
        &roots
            .iter()
            .flat_map(|path| forbids_unsafe(path, tree.text(path).unwrap_or_default()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_crate_without_lints_or_without_its_forbid_is_found() {
    assert_eq!(inherits_lints("tools", "[package]\nname = \"a\"\n").len(), 1);
    assert_eq!(inherits_lints("tools", "[lints]\nworkspace = true\n").len(), 0);
    assert_eq!(forbids_unsafe("a.rs", "//! A.\n").len(), 1);
    assert_eq!(forbids_unsafe("a.rs", "//! A.\n#![forbid(unsafe_code)]\n").len(), 0);
}
