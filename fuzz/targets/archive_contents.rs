//! The table of contents that `pg_restore --list` prints: whatever the text, only whole lines that
//! begin with the numbers of a built object go, and leaving them out twice is leaving them out.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use transhume::database::parallel::contents::{PG_CLASS, PG_CONSTRAINT, without};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(without(&text, &BTreeSet::new()), text);
    // The objects to leave out are taken from the input too.
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    let built: BTreeSet<(u32, u32)> =
        numbers.flat_map(|oid: u32| [(PG_CLASS, oid), (PG_CONSTRAINT, oid), (oid, 0)]).collect();
    let kept = without(&text, &built);
    assert_eq!(without(&kept, &built), kept);
    let mut left = text.split_inclusive('\n');
    for line in kept.split_inclusive('\n') {
        assert!(left.any(|other| other == line), "{line:?} was not there");
    }
});
