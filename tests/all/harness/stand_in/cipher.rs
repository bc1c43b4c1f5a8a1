//! Encryption of a database column under the instance's secrets, in the shape that Active Record
//! Encryption stores: `{"p":"…","h":{"iv":"…","at":"…"}}`. The algorithm is another (a keyed BLAKE3
//! stream and tag), the property that matters is the same: with other secrets nothing can be read.

use serde_json::{Value, json};

/// The keys that every process of an instance must share.
pub struct Cipher([u8; 32]);

impl Cipher {
    /// From `ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY`, `…_KEY_DERIVATION_SALT` and `SECRET_KEY_BASE`.
    pub fn new(primary_key: &str, salt: &str, secret_key_base: &str) -> Cipher {
        let material = [primary_key, salt, secret_key_base].join("\0");
        Cipher(blake3::derive_key("transhume sandbox column encryption", material.as_bytes()))
    }

    pub fn seal(&self, text: &str, nonce: &str) -> String {
        let body = hex(&self.stream(nonce, text.as_bytes()));
        let tag = self.tag(nonce, &body);
        json!({"p": body, "h": {"iv": nonce, "at": tag}}).to_string()
    }

    /// The text, or `None` where the secrets are not those that sealed it.
    pub fn open(&self, sealed: &str) -> Option<String> {
        let value: Value = serde_json::from_str(sealed).ok()?;
        let (nonce, tag) = (value["h"]["iv"].as_str()?, value["h"]["at"].as_str()?);
        let body = value["p"].as_str()?;
        if self.tag(nonce, body) != tag {
            return None;
        }
        let bytes = unhex(body)?;
        String::from_utf8(self.stream(nonce, &bytes)).ok()
    }

    fn stream(&self, nonce: &str, bytes: &[u8]) -> Vec<u8> {
        let mut pad = vec![0; bytes.len()];
        blake3::Hasher::new_keyed(&self.0).update(nonce.as_bytes()).finalize_xof().fill(&mut pad);
        bytes.iter().zip(pad).map(|(byte, pad)| byte ^ pad).collect()
    }

    fn tag(&self, nonce: &str, body: &str) -> String {
        blake3::keyed_hash(&self.0, format!("{nonce}.{body}").as_bytes()).to_hex().to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
