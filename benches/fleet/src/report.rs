//! What is shown: a line every few seconds, and the closing summary.

use crate::histogram::Histogram;
use crate::tally::{Reasons, Tally};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// The line of every few seconds.
pub fn line(tally: &Tally, hashes_per_second: u64) -> String {
    let mut line = format!(
        "{} connections, {} jobs, {} acknowledged, {} refused",
        tally.authorized,
        tally.jobs,
        tally.acknowledged,
        tally.refused.total()
    );
    if hashes_per_second > 0 {
        let _ = write!(line, ", {} kH/s", hashes_per_second / 1_000);
    }
    if tally.latency.total() > 0 {
        let _ = write!(line, ", answers p50 {} p99 {}", ms(&tally.latency, 50), ms(&tally.latency, 99));
    }
    if let Some(tip) = tally.tips.back() {
        // The leading zeros tell nothing apart.
        let hash = tip.hash.to_string();
        let _ = write!(line, ", tip …{} on {}", &hash[hash.len() - 8..], tip.connections);
    }
    if tally.disconnects.total() > 0 {
        let _ = write!(line, ", {} disconnects", tally.disconnects.total());
    }
    line
}

/// The summary for people.
pub fn text(tally: &Tally, hashes: u64, elapsed: Duration) -> String {
    let mut text = format!(
        "{:.1} s: {} connections at most, {} handshakes (p50 {}, p99 {}, max {}), {} jobs\n",
        elapsed.as_secs_f64(),
        tally.authorized_max,
        tally.handshakes,
        ms(&tally.handshake, 50),
        ms(&tally.handshake, 99),
        ms(&tally.handshake, 100),
        tally.jobs
    );
    if tally.submitted > 0 {
        let _ = writeln!(
            text,
            "{hashes} hashes, {} shares sent, {} acknowledged, {} of them look like blocks, {} unanswered, {} outdated",
            tally.submitted, tally.acknowledged, tally.blocks, tally.unanswered, tally.outdated
        );
        let latency = &tally.latency;
        let _ = writeln!(
            text,
            "answers p50 {}, p99 {}, max {}",
            ms(latency, 50),
            ms(latency, 99),
            ms(latency, 100)
        );
    }
    if tally.replays_acknowledged > 0 {
        let _ = writeln!(text, "{} replayed shares were acknowledged AGAIN", tally.replays_acknowledged);
    }
    let reasons = [
        ("refused", &tally.refused),
        ("replay refused", &tally.replays_refused),
        ("disconnect", &tally.disconnects),
    ];
    for (what, reasons) in reasons {
        for (reason, count) in &reasons.0 {
            let _ = writeln!(text, "{what}: {count} × {reason}");
        }
    }
    for tip in &tally.tips {
        let spread = tip.last.duration_since(tip.first).as_secs_f64() * 1e3;
        let _ = writeln!(text, "tip {}: {} connections within {spread:.1} ms", tip.hash, tip.connections);
    }
    text
}

/// The summary for programs, on one line.
pub fn json(tally: &Tally, hashes: u64, elapsed: Duration) -> Value {
    let micros = |histogram: &Histogram| {
        json!({
            "count": histogram.total(),
            "p50": histogram.percentile(50),
            "p99": histogram.percentile(99),
            "max": histogram.max(),
        })
    };
    let reasons = |reasons: &Reasons| json!(reasons.0);
    let tips: Vec<_> = tally
        .tips
        .iter()
        .map(|tip| {
            let spread = u64::try_from(tip.last.duration_since(tip.first).as_micros()).unwrap_or(u64::MAX);
            json!({ "prev_hash": tip.hash.to_string(), "connections": tip.connections, "spread_us": spread })
        })
        .collect();
    json!({
        "seconds": elapsed.as_secs_f64(),
        "connections_max": tally.authorized_max,
        "handshakes": tally.handshakes,
        "handshake_us": micros(&tally.handshake),
        "disconnects": reasons(&tally.disconnects),
        "jobs": tally.jobs,
        "hashes": hashes,
        "submitted": tally.submitted,
        "acknowledged": tally.acknowledged,
        "refused": reasons(&tally.refused),
        "unanswered": tally.unanswered,
        "outdated": tally.outdated,
        "blocks": tally.blocks,
        "replays_acknowledged": tally.replays_acknowledged,
        "replays_refused": reasons(&tally.replays_refused),
        "answer_us": micros(&tally.latency),
        "tips": tips,
    })
}

/// A percentile in milliseconds.
fn ms(histogram: &Histogram, percent: u64) -> String {
    format!("{:.1} ms", Duration::from_micros(histogram.percentile(percent)).as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use std::time::Instant;

    #[test]
    fn all_forms_say_what_was_counted() {
        let mut tally = Tally { submitted: 12, acknowledged: 10, authorized_max: 3, ..Tally::default() };
        tally.refused.count("23 low difficulty share");
        tally.refused.count("23 low difficulty share");
        tally.latency.record(1_500);
        tally.tip(BlockHash::from_byte_array([0xab; 32]), Instant::now());
        let elapsed = Duration::from_millis(2_500);
        let json = json(&tally, 99, elapsed);
        assert_eq!(
            (&json["acknowledged"], &json["refused"]["23 low difficulty share"]),
            (&10.into(), &2.into())
        );
        assert_eq!(json["answer_us"]["max"], 1_500);
        let text = text(&tally, 99, elapsed);
        assert!(
            text.contains("10 acknowledged") && text.contains("refused: 2 × 23 low difficulty share"),
            "{text}"
        );
        assert!(line(&tally, 1_500_000).contains(
            "10 acknowledged, 2 refused, 1500 kH/s, answers p50 1.5 ms p99 1.5 ms, tip …abababab on 1"
        ));
    }
}
