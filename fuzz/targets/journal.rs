//! The journal: whatever lies in the file, opening ends, and a journal that opens takes a record
//! and gives it back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use transhume::journal::{self, Journal};

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("journal");
    std::fs::write(&path, bytes).expect("write the journal");
    let Ok((mut opened, records)) = Journal::<serde_json::Value>::open(&path) else { return };
    let added = serde_json::json!({"fact": "added"});
    opened.append(&added).expect("append to a journal that opened");
    let mut read = journal::read::<serde_json::Value>(&path).expect("read it back");
    assert_eq!(read.pop(), Some(added));
    assert_eq!(read, records);
});
