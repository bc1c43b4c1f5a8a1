//! Random secrets that can be recognised, and random bytes that cannot be compressed.

use std::fs::File;
use std::io::Read;

/// What every secret of the sandbox starts with: a leak test looks for it in all that comes out.
pub const CANARY: &str = "cAnArY";

/// A secret: the canary and 128 random bits.
pub fn secret() -> String {
    format!("{CANARY}{}", hex(16))
}

/// `count` random bytes in hexadecimal.
pub fn hex(count: usize) -> String {
    let mut bytes = vec![0; count];
    let mut device = File::open("/dev/urandom").expect("/dev/urandom is there");
    device.read_exact(&mut bytes).expect("it never ends");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fills `buffer` with bytes that follow from `seed` and look random.
pub fn fill(seed: &str, buffer: &mut [u8]) {
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(buffer);
}
