//! The source tree as tokens with lines, so that no check mistakes a comment or
//! a string for code.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// One token; a group is its opening token, its contents and its closing token.
pub struct Token {
    pub text: String,
    pub line: usize,
    /// Index of the other end of a group; a token's own index elsewhere.
    pub partner: usize,
}

/// One `.rs` file.
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    /// Declared under `cfg(test)` by another file.
    is_test_module: bool,
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Self {
        let stream = TokenStream::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let test_lines = test_lines(&tokens);
        Self { path: path.to_owned(), text: text.to_owned(), tokens, is_test_module: false, test_lines }
    }

    /// Whether the tokens from `index` on read as `words`.
    pub fn reads(&self, index: usize, words: &[&str]) -> bool {
        reads(&self.tokens, index, words)
    }

    /// Whether a line belongs to tests: a test file, or an item under `cfg(test)`.
    pub fn is_test(&self, line: usize) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.is_test_module
            || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// The modules in files of their own that this file declares for tests:
    /// their paths without an ending.
    fn test_modules(&self) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let folder = match name {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let declarations = (0..self.tokens.len()).filter(|index| {
            self.reads(*index, &["mod"])
                && self.reads(index + 2, &[";"])
                && self.is_test(self.tokens[*index].line)
        });
        declarations.map(|index| format!("{folder}/{}", self.tokens[index + 1].text)).collect()
    }

    /// The crate that the file belongs to, as its folder.
    pub fn folder(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The path of the module that the file is, without its crate.
    pub fn module(&self) -> Vec<String> {
        let inside = self.path.split_once("/src/").map_or("", |(_, inside)| inside);
        let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').filter(|part| !matches!(*part, "" | "lib" | "main")).map(str::to_owned).collect()
    }

    /// The `//!` lines that the file opens with.
    pub fn opening(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let start = push(tokens, open, group.span_open());
                flatten(group.stream(), tokens);
                let end = push(tokens, close, group.span_close());
                tokens[start].partner = end;
                tokens[end].partner = start;
            }
            other => {
                push(tokens, &other.to_string(), other.span());
            }
        }
    }
}

fn push(tokens: &mut Vec<Token>, text: &str, span: Span) -> usize {
    let index = tokens.len();
    tokens.push(Token { text: text.to_owned(), line: span.start().line, partner: index });
    index
}

fn reads(tokens: &[Token], index: usize, words: &[&str]) -> bool {
    tokens.len() >= index + words.len()
        && tokens[index..].iter().zip(words).all(|(token, word)| token.text == *word)
}

/// Lines of items under `#[test]`, `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn test_lines(tokens: &[Token]) -> Vec<RangeInclusive<usize>> {
    let mut found = Vec::new();
    for index in 0..tokens.len() {
        if !reads(tokens, index, &["#", "["]) || !names_test(tokens, index + 2) {
            continue;
        }
        let mut end = tokens[index + 1].partner + 1;
        while reads(tokens, end, &["#", "["]) {
            end = tokens[end + 1].partner + 1;
        }
        while end < tokens.len() && !matches!(tokens[end].text.as_str(), "{" | ";") {
            end = tokens[end].partner + 1;
        }
        if let Some(last) = tokens.get(end) {
            found.push(tokens[index].line..=tokens[last.partner].line);
        }
    }
    found
}

fn names_test(tokens: &[Token], index: usize) -> bool {
    reads(tokens, index, &["test", "]"])
        || reads(tokens, index, &["cfg", "(", "test"])
        || reads(tokens, index, &["cfg", "(", "all", "(", "test"])
}

/// Everything in the repository that a rule can speak about.
pub struct Tree {
    pub root: PathBuf,
    pub sources: Vec<Source>,
    /// Every text file, the sources too: path and text.
    pub texts: Vec<(String, String)>,
}

impl Tree {
    /// The tree that this test was built from, read once.
    pub fn here() -> &'static Self {
        static TREE: OnceLock<Tree> = OnceLock::new();
        TREE.get_or_init(|| {
            let root =
                Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf();
            let mut texts = Vec::new();
            collect(&root, &root, &mut texts);
            texts.sort();
            let sources = texts.iter().filter(|(path, _)| path.ends_with(".rs"));
            let mut sources: Vec<Source> = sources.map(|(path, text)| Source::parse(path, text)).collect();
            mark_test_modules(&mut sources);
            Self { root, sources, texts }
        })
    }

    pub fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|(name, _)| name == path).map(|(_, text)| text.as_str())
    }
}

/// A file is of tests when the file that declares it says so, and what lies
/// beneath it is too.
fn mark_test_modules(sources: &mut [Source]) {
    let modules: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    let holds = |module: &String, path: &str| {
        path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    for source in sources {
        source.is_test_module = modules.iter().any(|module| holds(module, &source.path));
    }
}

#[test]
fn a_file_declared_for_tests_is_of_tests() {
    let paths = [
        "datapath/src/disk/guard.rs",
        "datapath/src/disk/guard/rig.rs",
        "datapath/src/disk/guard/rigging.rs",
    ];
    let text = "//! A.\n#[cfg(test)]\nmod rig;\nmod rigging;\n";
    let mut sources: Vec<Source> = paths.iter().map(|path| Source::parse(path, text)).collect();
    mark_test_modules(&mut sources);
    assert_eq!(sources.iter().map(|source| source.is_test(1)).collect::<Vec<_>>(), [false, true, false]);
}

/// Reads every text file below `folder`, except what git and cargo keep there.
fn collect(root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the source tree can be listed") {
        let entry = entry.expect("the source tree can be listed");
        let path = entry.path();
        let kind = entry.file_type().expect("the source tree can be listed");
        // In a worktree a file, which says where the repository lies.
        if entry.file_name() == ".git" {
            continue;
        }
        if kind.is_dir() {
            let built = entry.file_name() == "target" || path.join("CACHEDIR.TAG").exists();
            if !built {
                collect(root, &path, texts);
            }
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            texts.push((name, text));
        }
    }
}
