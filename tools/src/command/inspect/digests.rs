//! The digest file: what each chunk of the target held at the newest point.

use std::path::PathBuf;

use clap::Args;
use failback_datapath::journal::{Pair, loose};
use failback_datapath::unit::{Digest, Epoch};
use serde_json::json;

use super::looked::Looked;
use super::rows::{Counter, Rows};
use super::{fields, pair};
use crate::control::Failed;
use crate::output::Output;

/// Pages that are read at once.
const PAGES_AT_ONCE: u64 = 256;

const PAGE: u64 = loose::BLOCK as u64;

/// The digests of a journal.
#[derive(Args)]
pub struct Digests {
    /// The directory of the journal: RETENTION/MACHINE/DISK
    directory: PathBuf,
    /// Which chunks.
    #[command(flatten)]
    rows: Rows,
}

/// What the pages of the file hold together.
#[derive(Default)]
struct Counts {
    known: u64,
    pages: u64,
    /// The first few pages that are not whole.
    torn: Vec<u64>,
    torn_pages: u64,
}

/// Torn pages that are named.
const TORN_NAMED: usize = 16;

impl Digests {
    /// Shows digests, then what the whole file holds; reads and verifies every page.
    pub fn show(&self, output: &Output) -> Result<(), Failed> {
        let pair = pair::read(&self.directory)?;
        let file = Looked::open(&self.directory.join("digests"))?;
        let applied = applied(&file, &pair)?;
        let (mut rows, mut counts) = (self.rows.count(), Counts::default());
        let end = pair.chunks().div_ceil(loose::PAGE_DIGESTS);
        while counts.pages < end {
            let count = (end - counts.pages).min(PAGES_AT_ONCE);
            let length = usize::try_from(count * PAGE).unwrap_or(usize::MAX);
            let at = (loose::DIGEST_HEADERS + counts.pages) * PAGE;
            let bytes = file.read(at, length)?;
            if bytes.len() < length {
                return Err(file.wrong(at, "it ends before its last page"));
            }
            for page in bytes.chunks_exact(loose::BLOCK) {
                counts.take(page, &pair, &mut rows, output);
            }
        }
        rows.end(output);
        counts.tell(&pair, applied, output);
        Ok(())
    }
}

/// Up to which epoch the file is right.
fn applied(file: &Looked, pair: &Pair) -> Result<Epoch, Failed> {
    let pages = file.read(0, 2 * loose::BLOCK)?;
    let headers = pages.chunks(loose::BLOCK);
    let headers = headers.filter_map(|page| loose::digest_header(page, Some(loose::seed(pair))));
    let fitting = headers.filter(|(chunks, _)| *chunks == pair.chunks()).map(|(_, applied)| applied);
    fitting.max().ok_or_else(|| file.wrong(0, "neither of its headers is whole and of this pair"))
}

impl Counts {
    fn take(&mut self, page: &[u8], pair: &Pair, rows: &mut Counter, output: &Output) {
        let (number, first) = (self.pages, self.pages * loose::PAGE_DIGESTS);
        self.pages += 1;
        let Some(digests) = loose::digest_page(page, number, Some(loose::seed(pair))) else {
            self.torn_pages += 1;
            if self.torn.len() < TORN_NAMED {
                self.torn.push(number);
            }
            return;
        };
        for (chunk, digest) in (first..pair.chunks()).zip(digests) {
            let Some(digest) = digest else { continue };
            self.known += 1;
            if rows.takes() {
                show(chunk, digest, output);
            }
        }
    }

    fn tell(&self, pair: &Pair, applied: Epoch, output: &Output) {
        let (known, torn) = (self.known, self.torn_pages);
        let named: Vec<String> = self.torn.iter().map(ToString::to_string).collect();
        let torn_text = match torn {
            0 => "none".to_owned(),
            _ => format!(
                "{torn} (pages {}{})",
                named.join(", "),
                if torn > named.len() as u64 { ", …" } else { "" }
            ),
        };
        let text = fields::lines(&[
            ("up to epoch", applied.to_string()),
            ("chunks", pair.chunks().to_string()),
            ("known", known.to_string()),
            ("not whole, so not known", torn_text),
        ]);
        output.line(&text, || {
            json!({
                "event": "digests", "applied": applied, "chunks": pair.chunks(), "known": known,
                "pages": self.pages, "torn_pages": torn,
            })
        });
    }
}

fn show(chunk: u64, digest: Digest, output: &Output) {
    let digest = format!("{digest:?}");
    output.line(
        &format!("chunk {chunk:>10}  {digest}"),
        || json!({"event": "digest", "chunk": chunk, "digest": digest}),
    );
}
