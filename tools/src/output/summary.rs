//! The summary of a synchronization.

use std::time::Duration;

use failback_datapath::resync::Report;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

/// The last line of `--json`.
pub fn event(report: &Report, elapsed: Duration) -> Value {
    let mut event = json!(report);
    event["event"] = json!("summary");
    event["seconds"] = json!(elapsed.as_secs_f64());
    event
}

/// For people.
pub fn text(report: &Report, elapsed: Duration) -> String {
    let counts = &report.counts;
    let seconds = elapsed.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
    let rate =
        Duration::try_from_secs_f64(report.bytes_total as f64 / seconds).map_or(0, |bytes| bytes.as_secs());
    let would = if report.dry_run { "would differ" } else { "differed" };
    let mut lines = vec![
        format!("{} in {seconds:.2} s ({}/s)", BinaryBytes(report.bytes_total), BinaryBytes(rate)),
        format!(
            "read {} of the source, {} of the target; {} chunks {would}",
            BinaryBytes(counts.bytes_read_source),
            BinaryBytes(counts.bytes_read_target),
            counts.chunks_differing
        ),
    ];
    if !report.dry_run {
        let sent = if counts.bytes_sent > 0 {
            format!("sent {}, ", BinaryBytes(counts.bytes_sent))
        } else {
            String::new()
        };
        lines.push(format!(
            "{sent}wrote {}, zeroed {}",
            BinaryBytes(counts.bytes_written),
            BinaryBytes(counts.bytes_zeroed)
        ));
    }
    lines.push(match (report.dry_run, report.verified) {
        (true, _) => "nothing was changed".to_owned(),
        (false, true) => "the target is flushed, and verified against the source's digests".to_owned(),
        (false, false) => "the target is flushed".to_owned(),
    });
    if report.fuzzy {
        lines.push(
            "FUZZY: the source was being written meanwhile; the target holds no single moment of it"
                .to_owned(),
        );
    }
    lines.join("\n")
}
