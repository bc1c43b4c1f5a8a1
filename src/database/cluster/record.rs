//! What stood in the server's own file before we changed it. Pure.

use serde::{Deserialize, Serialize};

use super::conf::{Entry, Setting};

/// What one run changed. It is kept beside the changes, in the server's `postgresql.auto.conf`, as a
/// setting that means nothing to PostgreSQL: no database's end and no death of ours parts the two,
/// and whoever can see the one can see the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub run: String,
    pub changes: Vec<Change>,
}

/// One setting that was raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub setting: Setting,
    /// What we set, as it stands in the file.
    pub ours: String,
    /// What stood in the file; `None` where nothing did.
    pub former: Option<String>,
    /// What was in force, wherever it came from, for people.
    pub from: String,
}

impl Change {
    /// Whose the `entry` is that stands in the file now.
    pub fn compare(&self, entry: Option<String>) -> Entry {
        match entry {
            Some(text) if text == self.ours => Entry::Ours,
            entry if entry == self.former => Entry::Former,
            Some(text) => Entry::Foreign(text),
            None => Entry::Foreign("what is in force without it".into()),
        }
    }
}

impl Record {
    pub fn parse(text: &str) -> Option<Record> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_apart_by_who_set_it() {
        let change = |former: Option<&str>| Change {
            setting: Setting::MaxWalSize,
            ours: "16GB".into(),
            former: former.map(str::to_owned),
            from: "1GB".into(),
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(change(None).compare(text("16GB")), Entry::Ours);
        assert_eq!(change(None).compare(None), Entry::Former);
        assert_eq!(change(Some("2GB")).compare(text("2GB")), Entry::Former);
        assert_eq!(change(Some("2GB")).compare(text("3GB")), Entry::Foreign("3GB".into()));
        assert!(matches!(change(Some("2GB")).compare(None), Entry::Foreign(_)));
    }
}
