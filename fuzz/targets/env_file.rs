//! `.env.production`: whatever the bytes, parsing ends, and a value that was set is read back while
//! every other value stays.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use transhume::instance::env_file::EnvFile;
use transhume::secret::Secret;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = EnvFile::parse(bytes) else { return };
    assert_eq!(file.to_bytes(), bytes);
    // The value to set is taken from the input too, so that quoting is tried.
    let text = String::from_utf8_lossy(bytes);
    let value = Secret::new(text.lines().last().unwrap_or_default().replace('\0', ""));
    let changes = BTreeMap::from([("DB_PASS".to_owned(), value.clone())]);
    let Ok(changed) = file.with(&changes) else { return };
    let again = EnvFile::parse(changed.to_bytes()).expect("what we wrote can be read");
    assert!(again.get("DB_PASS").as_ref() == Some(&value), "the value is not what was set");
});
