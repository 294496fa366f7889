//! Samples of a published log: what is made up is found as often as it counts, and no honest log is called a lie.

use super::lives::{live, step};
use super::*;
use crate::publish::Head;
use crate::publish::tiles::{Place, Row, Tiles, WIDTH};
use crate::verify::light::{Light, LightError, LightReport, SignedLog};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::cell::Cell;
use std::io;
use tempfile::TempDir;

type Failed = LightError<io::Error>;

/// A published log, and the entries that register payees.
struct Site {
    tiles: Tiles,
    payees: Vec<u64>,
    _dir: TempDir,
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

impl Site {
    fn of_bytes(entries: &[Vec<u8>], payees: Vec<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut tiles = Tiles::open(dir.path()).unwrap();
        tiles.append(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        Self { tiles, payees, _dir: dir }
    }

    fn of(entries: &[Entry]) -> Self {
        let payees = (0..).zip(entries).filter(|(_, entry)| matches!(entry, Entry::Payee(_)));
        let payees = payees.map(|(index, _)| index).collect();
        Self::of_bytes(&entries.iter().map(encoded).collect::<Vec<_>>(), payees)
    }

    fn head(&self) -> Head {
        Head { size: self.tiles.size(), root: self.tiles.root().unwrap() }
    }

    fn fetch(&self, place: &Place) -> io::Result<Vec<u8>> {
        self.tiles.read(place)
    }

    fn registration(&self, payee: u32) -> io::Result<Option<u64>> {
        Ok(self.payees.get(payee as usize).copied())
    }

    fn sampled(&self, samples: u32, seed: u64) -> Result<LightReport, Failed> {
        let fetch = |place: &Place| self.fetch(place);
        let log = SignedLog::new(self.head(), &fetch)?;
        self.sampled_from(&log, samples, seed)
    }

    fn sampled_from(
        &self,
        log: &SignedLog<'_, io::Error>,
        samples: u32,
        seed: u64,
    ) -> Result<LightReport, Failed> {
        let registration = |payee| self.registration(payee);
        let mut light = Light::new(log, &registration)?;
        for number in light.draw(samples, &mut StdRng::seed_from_u64(seed)) {
            light.sample(number)?;
        }
        Ok(light.finish())
    }
}

fn found(entries: &[Entry]) -> Vec<String> {
    let report = Site::of(entries).sampled(300, 1).unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

/// That all that is found is of this kind, and something is.
fn assert_found(entries: &[Entry], words: &[&str]) {
    let found = found(entries);
    let named = |lie: &String| words.iter().any(|words| lie.contains(words));
    assert!(!found.is_empty() && found.iter().all(named), "{words:?}: {found:#?}");
}

/// Over several bundles; one log for all tests.
fn long_log() -> Vec<Entry> {
    static LOG: std::sync::OnceLock<Vec<Entry>> = std::sync::OnceLock::new();
    LOG.get_or_init(|| lived(400, &honest()).entries()).clone()
}

/// What every share without work can be called: by chance it is the work of an easier job, of another payee, or a block.
const NO_WORK: &[&str] =
    &["share without work", "was mined for", "credited to another payee", "hidden block"];

/// Makes up shares until they are one part in so many of all credited work; the copies that need no work come last.
fn with_made_up(parts: u128) -> Vec<Entry> {
    let mut entries = long_log();
    let last = *shares(&entries).last().unwrap();
    let Entry::Share(pattern) = entries[last].clone() else { unreachable!() };
    let real = pattern.total_work.0;
    let mut made_up = 0;
    for nonce in 0.. {
        if made_up * parts >= real + made_up {
            break;
        }
        let pot = Pot::try_from(POT + 4).unwrap();
        made_up += pot.work().0;
        entries.push(Entry::Share(Share { nonce, pot, block_candidate: false, ..pattern.clone() }));
    }
    resum(&mut entries);
    entries
}

#[test]
fn an_honest_log_passes_with_a_part_of_it_fetched() {
    let entries = long_log();
    let site = Site::of(&entries);
    let report = site.sampled(300, 7).unwrap();
    assert!(report.is_proven(), "{report:#?}");
    assert_eq!((report.samples, report.total_work), (300, audited(&entries).total_work));
    assert!(report.shares > 100 && report.real_part() > 0.99, "{report:?}");
}

#[test]
fn lie_light_fabricated_shares_without_work() {
    assert_found(&with_made_up(5), NO_WORK);
}

#[test]
fn one_part_of_made_up_work_in_a_hundred_is_found_nineteen_times_of_twenty() {
    let site = Site::of(&with_made_up(100));
    let fetch = |place: &Place| site.fetch(place);
    let log = SignedLog::new(site.head(), &fetch).unwrap();
    let is_found = |seed: &u64| !site.sampled_from(&log, 300, *seed).unwrap().is_honest();
    let times = (0..200).filter(is_found).count();
    // 190 are to be expected; 178 and fewer happen less than once in ten thousand times.
    assert!(times > 178, "found {times} times of 200");
}

#[test]
fn lie_light_a_sum_that_jumps() {
    let mut entries = long_log();
    let jump = shares(&entries)[200];
    for entry in &mut entries[jump..] {
        if let Entry::Share(share) = entry {
            share.total_work.0 += 1 << 20;
        }
    }
    assert_found(&entries, &[&format!("entry {jump}: the log contradicts itself: sum of credited work")]);
}

#[test]
fn lie_light_a_sum_that_jumps_between_two_bundles() {
    let mut entries = long_log();
    let jump = *shares(&entries).iter().find(|index| **index >= WIDTH).unwrap();
    for entry in &mut entries[jump..] {
        if let Entry::Share(share) = entry {
            share.total_work.0 += 1 << 20;
        }
    }
    assert_found(&entries, &[&format!("entry {jump}: the log contradicts itself: sum of credited work")]);
}

#[test]
fn lie_light_sums_that_begin_anew_so_that_real_work_covers_more() {
    let mut entries = long_log();
    let at = shares(&entries);
    let (half, last) = (at[at.len() / 2], *at.last().unwrap());
    let before = share(&mut entries, half).total_work.0;
    for entry in &mut entries[half..] {
        if let Entry::Share(share) = entry {
            share.total_work.0 -= before;
        }
    }
    share(&mut entries, last).total_work.0 += 10 * before;
    assert_found(&entries, &["sum of credited work"]);
}

#[test]
fn lie_light_shares_credited_to_another_payee() {
    let mut entries = long_log();
    for index in shares(&entries).into_iter().step_by(2) {
        let payee = share(&mut entries, index).payee;
        share(&mut entries, index).payee = (payee + 1) % 3;
    }
    assert_found(&entries, NO_WORK);
    assert!(found(&entries).iter().any(|lie| lie.contains("share credited to another payee")));
}

#[test]
fn lie_light_a_share_credited_above_its_pot() {
    let mut entries = long_log();
    let at = shares(&entries)[100];
    share(&mut entries, at).pot = Pot::try_from(20).unwrap();
    resum(&mut entries);
    assert_found(&entries, &[&format!("entry {at}: share ")]);
}

#[test]
fn lie_light_shares_credited_again_and_again() {
    let mut entries = long_log();
    let pattern = entries[*shares(&entries).last().unwrap()].clone();
    entries.extend(vec![pattern; 300]);
    resum(&mut entries);
    assert_found(&entries, &["share credited twice: the same header as that of entry "]);
}

#[test]
fn lie_light_shares_of_what_is_no_job() {
    let mut entries = long_log();
    for index in shares(&entries) {
        share(&mut entries, index).job = 0;
    }
    assert_found(&entries, &["the share names entry 0 as its job, which is none"]);
    let last = *shares(&entries).last().unwrap();
    for index in shares(&entries) {
        share(&mut entries, index).job = last as u64;
    }
    assert_found(&entries, &["its job comes later"]);
}

#[test]
fn lie_light_a_payee_that_is_registered_later() {
    let mut entries = long_log();
    let first = entries.iter().position(|entry| matches!(entry, Entry::Payee(_))).unwrap();
    let payee = entries[first].clone();
    entries[first] = Entry::Chain(ChainEntry { unix_ms: 0, event: ChainEvent::Retarget { nbits: 1 } });
    entries.push(payee);
    let mut site = Site::of(&entries);
    site.payees.rotate_right(1);
    let report = site.sampled(300, 1).unwrap();
    assert!(!report.is_honest());
    assert!(report.findings.iter().all(|found| found.to_string().contains("payee is not registered")));
}

#[test]
fn lie_light_an_entry_that_is_none() {
    let mut bytes: Vec<Vec<u8>> = long_log().iter().map(encoded).collect();
    let last = bytes.len() - 1;
    bytes[last].push(0);
    let failed = Site::of_bytes(&bytes, Vec::new()).sampled(1, 1).unwrap_err();
    let words = format!("entry {last} under the signed head is none: 1 bytes left over in entry");
    assert_eq!(failed.to_string(), words);
}

#[test]
fn lie_light_a_tile_altered() {
    let site = Site::of(&long_log());
    let altered = |row: Row, number: u64, byte: usize| {
        let fetch = |place: &Place| {
            let mut bytes = site.fetch(place)?;
            if (place.row, place.number) == (row, number) {
                bytes[byte] ^= 1;
            }
            Ok(bytes)
        };
        let log = SignedLog::new(site.head(), &fetch).unwrap();
        site.sampled_from(&log, 300, 1).unwrap_err().to_string()
    };
    assert_eq!(altered(Row::Entries, 1, 700), "tile/entries/001 is not what the signed head covers");
    assert_eq!(altered(Row::Entries, 0, 1), "tile/entries/000 is not what the signed head covers");
    for (row, byte) in [(Row::Level(1), 40), (Row::Level(0), 5)] {
        let number = if row == Row::Level(0) { site.head().size / WIDTH as u64 } else { 0 };
        let words = altered(row, number, byte);
        assert!(
            words.starts_with("a tile of hashes (") && words.ends_with("the signed head covers"),
            "{words}"
        );
    }
}

#[test]
fn tiles_that_are_cut_off_or_missing_are_named() {
    let site = Site::of(&long_log());
    let cut = |place: &Place| {
        let mut bytes = site.fetch(place)?;
        if place.row == Row::Level(1) {
            bytes.pop();
        }
        Ok(bytes)
    };
    let log = SignedLog::new(site.head(), &cut).unwrap();
    let words = site.sampled_from(&log, 1, 1).unwrap_err().to_string();
    assert!(words.starts_with("tile/1/000.p/") && words.ends_with("the signed head covers"), "{words}");
    let missing = |_: &Place| Err(io::ErrorKind::NotFound.into());
    let log = SignedLog::new(site.head(), &missing).unwrap();
    assert!(matches!(site.sampled_from(&log, 1, 1), Err(LightError::Fetch(_))));
}

#[test]
fn without_payees_nothing_is_proven_and_a_wrong_one_is_not_believed() {
    let mut site = Site::of(&long_log());
    let payees = std::mem::take(&mut site.payees);
    let report = site.sampled(20, 1).unwrap();
    assert!(report.is_honest() && !report.is_proven() && report.not_hashed > 0 && report.shares == 0);
    site.payees = payees.iter().map(|index| index + 1).collect();
    let failed = site.sampled(20, 1).unwrap_err().to_string();
    assert!(failed.contains("was named as the one that registers payee index"), "{failed}");
}

#[test]
fn roots_of_earlier_heads_and_single_entries_follow_from_the_tiles() {
    let entries = long_log();
    let site = Site::of(&entries);
    let fetch = |place: &Place| site.fetch(place);
    let log = SignedLog::new(site.head(), &fetch).unwrap();
    for size in [0, 1, 2, 255, 256, 257, 300, entries.len() - 1, entries.len()] {
        let earlier = Site::of(&entries[..size]).head();
        assert_eq!(log.root(earlier.size).unwrap(), earlier.root, "{size}");
    }
    assert!(matches!(log.root(entries.len() as u64 + 1), Err(LightError::Beyond(_))));
    for index in [0, 255, 256, entries.len() - 1] {
        assert!(log.holds(index as u64, &encoded(&entries[index])).unwrap());
        assert!(!log.holds(index as u64, b"other").unwrap());
        assert_eq!(log.entry(index as u64).unwrap(), entries[index]);
    }
    for beyond in [entries.len() as u64, u64::MAX] {
        assert!(matches!(log.holds(beyond, b""), Err(LightError::Beyond(_))));
        assert!(matches!(log.entry(beyond), Err(LightError::Beyond(_))));
    }
    for size in [(1 << 48) + 1, u64::MAX, 0] {
        assert!(matches!(SignedLog::new(Head { size, root: [1; 32] }, &fetch), Err(LightError::Head(_))));
    }
    let empty = Site::of(&[]);
    let report = empty.sampled(300, 1).unwrap();
    assert!(report.is_proven() && report.samples == 0 && report.real_part() == 0.0);
}

/// Shares that nobody has worked on, with other entries between, some of them in long rows.
fn unworked(count: usize, pots: &[i8]) -> Vec<Entry> {
    let entries = long_log();
    let Entry::Share(pattern) = entries[shares(&entries)[0]].clone() else { unreachable!() };
    let event = Entry::Chain(ChainEntry { unix_ms: 0, event: ChainEvent::Retarget { nbits: 1 } });
    let mut made = Vec::new();
    for n in 0..count {
        let pot = Pot::try_from(pots[n % pots.len()]).unwrap();
        made.push(Entry::Share(Share { pot, credited: n % 7 > 0, ..pattern.clone() }));
        if n % 1_000 == 999 {
            made.extend(vec![event.clone(); 700]);
        }
    }
    resum(&mut made);
    made
}

#[test]
fn few_bundles_of_many_are_fetched() {
    let entries = unworked(100_000, &[-3, -3, -2, -4, 4]);
    let site = Site::of(&entries);
    let fetches = Cell::new(0);
    let fetch = |place: &Place| {
        fetches.set(fetches.get() + u32::from(place.row == Row::Entries));
        site.fetch(place)
    };
    let log = SignedLog::new(site.head(), &fetch).unwrap();
    let registration = |_| Ok(None);
    let mut light = Light::new(&log, &registration).unwrap();
    for number in light.draw(20, &mut StdRng::seed_from_u64(1)) {
        light.search(number).unwrap();
    }
    println!("{} of {} bundles, {} bytes", fetches.get(), entries.len() / WIDTH, log.fetched_bytes());
    assert!(fetches.get() < 100, "{} fetches", fetches.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The search ends where a reading of the whole log does.
    #[test]
    fn a_search_ends_at_the_share_whose_interval_holds_the_number(
        count in 1_usize..3_000,
        pots in prop::collection::vec(-10_i8..20, 1..6),
        parts in prop::collection::vec(any::<u64>(), 20),
    ) {
        let entries = unworked(count, &pots);
        let site = Site::of(&entries);
        let fetch = |place: &Place| site.fetch(place);
        let log = SignedLog::new(site.head(), &fetch).unwrap();
        let registration = |_| Ok(None);
        let mut light = Light::new(&log, &registration).unwrap();
        let sums = (0_u64..).zip(&entries).filter_map(|(index, entry)| match entry {
            Entry::Share(share) => Some((index, share.total_work.0)),
            _ => None,
        });
        let sums: Vec<_> = sums.collect();
        let total = sums.last().unwrap().1;
        prop_assert_eq!(light.draw(5, &mut StdRng::seed_from_u64(1)).is_empty(), total == 0);
        let edges = sums.iter().map(|(_, sum)| *sum).filter(|sum| *sum < total).take(50);
        let drawn = parts.iter().map(|part| u128::from(*part) % total.max(1)).filter(|_| total > 0);
        for number in edges.chain(drawn).collect::<Vec<_>>() {
            let (index, share, before) = light.search(number).unwrap();
            let first = sums.iter().find(|(_, sum)| *sum > number).unwrap();
            prop_assert_eq!((index, share.total_work.0), *first);
            prop_assert!(before <= number && number < share.total_work.0);
            prop_assert_eq!(before + share.credited_work().0, share.total_work.0);
        }
    }

    /// A hostile pool signs any size, and its tiles may hold anything: nothing of that is believed, and nothing panics.
    #[test]
    fn no_signed_size_makes_the_tiles_panic(
        size in prop_oneof![1_u64..70_000, (0_u32..49, 0_u64..3).prop_map(|(bit, less)| (1 << bit) - less.min(1 << bit)), any::<u64>()],
        index in any::<u64>(),
        byte in any::<u8>(),
    ) {
        let fetch = |place: &Place| match place.row {
            Row::Level(_) => Ok::<_, io::Error>(vec![byte; place.width * 32]),
            Row::Entries => Ok([0, 1, byte].repeat(place.width)),
        };
        if let Ok(log) = SignedLog::new(Head { size, root: [byte; 32] }, &fetch) {
            let index = index % size;
            // Where the highest tile has one hash, that is the root.
            let is_one = size.is_power_of_two() && size.trailing_zeros().is_multiple_of(8);
            prop_assert_eq!(log.root(size).is_ok(), is_one);
            prop_assert!(!log.holds(index, b"").is_ok_and(|held| held));
            prop_assert!(log.entry(index).is_err());
            let _ = log.root(index);
        }
    }

    #[test]
    fn no_honest_history_is_called_a_lie_by_samples(
        window in 1_u64..80,
        steps in prop::collection::vec(step(), 1..60),
        seed in any::<u64>(),
    ) {
        let report = Site::of(&live(window, steps).0).sampled(50, seed).unwrap();
        prop_assert!(report.is_proven(), "{:#?}", report.findings);
    }

    /// Sums and jobs of a liar may be anything: no search goes on for ever, and none panics.
    #[test]
    fn no_log_makes_samples_panic(
        alterations in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
        sums in prop::collection::vec((any::<prop::sample::Index>(), any::<u128>()), 0..20),
    ) {
        let mut entries = long_log();
        let at = shares(&entries);
        for (which, sum) in sums {
            share(&mut entries, *which.get(&at)).total_work = Work(sum);
        }
        for (which, byte, value) in alterations {
            let at = which.index(entries.len());
            let mut bytes = encoded(&entries[at]);
            let place = byte.index(bytes.len());
            bytes[place] ^= value;
            if let Ok((altered, _)) = Entry::decode(&bytes) {
                entries[at] = altered;
            }
        }
        let _ = Site::of(&entries).sampled(20, 1);
    }
}
