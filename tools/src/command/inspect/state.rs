//! The files in a state folder, each as what it is.

use std::fs;
use std::path::{Path, PathBuf};

use failback_datapath::landing::{MarkBody, Owner};
use failback_datapath::quiesce::Binding;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fields;
use super::looked::Looked;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;
use crate::paths;

/// A state file is a few hundred bytes; a larger one is not one of ours.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Files of one kind that are shown.
const FILES_MAX: usize = 4096;

/// What a state file says, as fields.
type Read = fn(&[u8]) -> Result<Value, serde_json::Error>;

/// Single files.
const FILES: [(&str, &str, Read); 3] = [
    ("binding.json", "machine that an agent belongs to", known::<Binding>),
    ("mounted.json", "BPF filesystem that an agent mounted", any),
    ("clock.json", "what a master target knows of its clocks", any),
];

/// Folders of files of one kind. Keys and peers lie in `identity`, which is
/// nobody's to look at.
const KINDS: [(&str, &str, Read); 3] = [
    ("targets", "mark of an unfinished target", known::<MarkBody>),
    ("owners", "owner of a disk", known::<Owner>),
    ("disks", "protected disk of an agent", any),
];

/// Shows every file; those that make no sense are told, and an error at the end.
pub fn show(folder: Option<&PathBuf>, output: &Output) -> Result<(), Failed> {
    let folder = paths::state(folder);
    if !folder.is_dir() {
        return Err((Exit::Refused, format!("{}: there is no such folder", folder.display())));
    }
    // Where nobody says otherwise, an agent's state lies within that of targets.
    let mut files = files(&folder)?;
    files.extend(self::files(&folder.join("agent"))?);
    let mut wrong = 0;
    for (path, what, read) in &files {
        match content(path, *read) {
            Ok(content) => tell(path, what, &content, output),
            Err((_, reason)) => {
                wrong += 1;
                output.line(
                    &format!("{}\n  WRONG: {reason}", path.display()),
                    || json!({"event": "damaged", "file": path.display().to_string(), "reason": reason}),
                );
            }
        }
    }
    if files.is_empty() {
        let text =
            format!("{}: no target is unfinished, no disk is owned, and no agent was here", folder.display());
        output.line(&text, || json!({"event": "empty", "folder": folder.display().to_string()}));
    }
    if wrong > 0 {
        let shown = files.len();
        return Err((Exit::Failed, format!("{}: {wrong} of {shown} files make no sense", folder.display())));
    }
    Ok(())
}

/// All files of a state folder, what they are, and how they are read.
fn files(folder: &Path) -> Result<Vec<(PathBuf, &'static str, Read)>, Failed> {
    let mut files = Vec::new();
    for (name, what, read) in FILES {
        let path = folder.join(name);
        files.extend(path.exists().then_some((path, what, read)));
    }
    for (name, what, read) in KINDS {
        files.extend(of_kind(&folder.join(name))?.into_iter().map(|path| (path, what, read)));
    }
    Ok(files)
}

fn of_kind(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let unreadable = |error: std::io::Error| (Exit::Refused, format!("{}: {error}", folder.display()));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn content(path: &Path, read: Read) -> Result<Value, Failed> {
    let file = Looked::open(path)?;
    let bytes = file.whole(FILE_BYTES_MAX)?;
    let content = read(&bytes).map_err(|error| file.wrong(0, &error.to_string()))?;
    match content.get("version") {
        Some(version) if *version != 1 => Err(file.wrong(0, &format!("version {version} is not known here"))),
        _ => Ok(content),
    }
}

/// All that a file says, if that is what files of its kind say.
fn known<T: DeserializeOwned>(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<T>(bytes)?;
    any(bytes)
}

fn any(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn tell(path: &Path, what: &str, content: &Value, output: &Output) {
    let rows: Vec<(String, String)> = match content {
        Value::Object(content) => {
            content.iter().map(|(name, value)| (format!("  {name}"), plain(value))).collect()
        }
        other => vec![("  value".to_owned(), plain(other))],
    };
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    output.line(
        &format!("{} ({what})\n{}", path.display(), fields::lines(&rows)),
        || json!({"event": "state", "file": path.display().to_string(), "what": what, "content": content}),
    );
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
