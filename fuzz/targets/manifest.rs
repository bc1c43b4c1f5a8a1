//! A block of a manifest: any bytes are gone through or refused, in bounded memory and without a
//! panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(count) = transhume::media::manifest::directories_in(bytes) {
        // Each takes a path and a record.
        assert!(count as usize * 8 <= bytes.len());
    }
});
