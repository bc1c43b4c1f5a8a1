//! Marked passages: text that transhume puts into a site file and takes out again. Pure.
//!
//! The law: `remove(insert(bytes, passages), kind) == bytes` for all bytes that hold no marker
//! of ours, so the file is as it was, whatever the operator edited beside the passages meanwhile.

/// What a passage is for. Each kind is put in and taken out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The old server answers 503.
    Maintenance,
    /// The old server passes everything on to the new one.
    Proxy,
    /// The new server believes the old one about its clients' addresses.
    ClientAddress,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Maintenance, Kind::Proxy, Kind::ClientAddress];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Maintenance => "maintenance",
            Kind::Proxy => "proxy",
            Kind::ClientAddress => "client-address",
        }
    }

    fn begin(self) -> String {
        format!("\n# transhume {} begins (it is taken out again by transhume)\n", self.name())
    }

    fn end(self) -> String {
        format!("\n# transhume {} ends\n", self.name())
    }
}

/// Text to put in before the byte at `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub at: usize,
    pub text: String,
}

/// `bytes` with the passages put in, each between the markers of `kind`.
pub fn insert(bytes: &[u8], kind: Kind, mut passages: Vec<Passage>) -> Vec<u8> {
    passages.sort_by_key(|passage| passage.at);
    let mut edited = Vec::with_capacity(bytes.len() + 4096);
    let mut copied = 0;
    for passage in passages {
        let at = passage.at.clamp(copied, bytes.len());
        edited.extend_from_slice(&bytes[copied..at]);
        edited.extend_from_slice(kind.begin().as_bytes());
        edited.extend_from_slice(passage.text.trim_end_matches('\n').as_bytes());
        edited.extend_from_slice(kind.end().as_bytes());
        copied = at;
    }
    edited.extend_from_slice(&bytes[copied..]);
    edited
}

/// `bytes` without the passages of `kind`. A beginning without its end is left alone.
pub fn remove(bytes: &[u8], kind: Kind) -> Vec<u8> {
    let (begin, end) = (kind.begin(), kind.end());
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(start) = find(rest, begin.as_bytes()) {
        let inside = &rest[start + begin.len()..];
        let Some(length) = find(inside, end.as_bytes()) else { break };
        if let Some(next) = find(&inside[..length], begin.as_bytes()) {
            // The end of the first is gone: what lies between is not known to be ours.
            let damaged = start + begin.len() + next;
            kept.extend_from_slice(&rest[..damaged]);
            rest = &rest[damaged..];
            continue;
        }
        kept.extend_from_slice(&rest[..start]);
        rest = &inside[length + end.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// Whether `bytes` hold a marker of `kind`, whole or damaged.
pub fn holds(bytes: &[u8], kind: Kind) -> bool {
    [kind.begin(), kind.end()].iter().any(|marker| find(bytes, marker.trim().as_bytes()).is_some())
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;
    use proptest::prelude::*;

    fn passages() -> impl Strategy<Value = Vec<(prop::sample::Index, String)>> {
        prop::collection::vec((any::<prop::sample::Index>(), "[a-z;{} \n]{0,30}"), 0..4)
    }

    proptest! {
        /// The law of the module head.
        #[test]
        fn taking_out_what_was_put_in_gives_the_same_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            places in passages(),
        ) {
            let places = places.into_iter().map(|(at, text)| Passage { at: at.index(bytes.len() + 1), text }).collect();
            let edited = insert(&bytes, Kind::Maintenance, places);
            prop_assert_eq!(remove(&edited, Kind::Proxy), edited.clone());
            prop_assert_eq!(remove(&edited, Kind::Maintenance), bytes);
        }

        #[test]
        fn removing_never_panics(text in "[\n a]{0,5}(\n# transhume proxy (begins \\(it is taken out again by transhume\\)|ends)\n[\na]{0,3}){0,5}") {
            let once = remove(text.as_bytes(), Kind::Proxy);
            prop_assert!(once.len() <= text.len());
        }
    }

    #[test]
    fn a_passage_after_a_brace_on_the_same_line_is_no_comment() {
        let edited = insert(
            b"server { listen 80; }",
            Kind::Proxy,
            vec![Passage { at: 8, text: "return 503;\n".into() }],
        );
        let server = &parse(&edited).unwrap()[0];
        assert_eq!(server.children()[0].words, ["return", "503"]);
        assert_eq!(server.children()[1].words, ["listen", "80"]);
    }

    #[test]
    fn what_the_operator_added_meanwhile_stays() {
        let passage = vec![Passage { at: 1, text: "x;".into() }];
        let mut edited = insert(b"{}", Kind::Maintenance, passage);
        edited.extend_from_slice(b"# mine\n");
        assert_eq!(remove(&edited, Kind::Maintenance), b"{}# mine\n");
    }
}
