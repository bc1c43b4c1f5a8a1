//! The table of contents of an archive, as `pg_restore --list` prints it. Pure.
//!
//! A line is `dumpId; catalog oid, oid of the object, description`. Names may be anything but a
//! line break, so only the numbers are looked at; a line that does not begin with them is kept.

use std::collections::BTreeSet;

/// What an entry defines: the oid of its catalog, and its own.
pub type Object = (u32, u32);

/// The catalog of relations.
pub const PG_CLASS: u32 = 1259;
/// The catalog of constraints.
pub const PG_CONSTRAINT: u32 = 2606;

/// The list without the entries that define one of `built`.
pub fn without(list: &str, built: &BTreeSet<Object>) -> String {
    let is_left = |line: &&str| object(line).is_none_or(|object| !built.contains(&object));
    list.split_inclusive('\n').filter(is_left).collect()
}

/// The object that the entry on `line` defines.
fn object(line: &str) -> Option<Object> {
    let (id, rest) = line.split_once(';')?;
    id.trim().parse::<u32>().ok()?;
    let mut words = rest.split_ascii_whitespace();
    let catalog = words.next()?.parse().ok()?;
    Some((catalog, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &str = "\
;
; Archive created at 2026-11-28 00:00:00 UTC
;     dbname: odd; 1259 16403 INDEX
;
; Selected TOC Entries:
;
3189; 1259 16403 INDEX public index_tags_on_name mastodon
3190; 1259 16404 INDEX public 7; 1259 16403 INDEX x mastodon
3191; 2606 16403 CONSTRAINT public tags tags_pkey mastodon
3192; 0 0 COMMENT public INDEX index_tags_on_name mastodon
3193; 2606 16405 FK CONSTRAINT public a fk_rails_1 mastodon
";

    #[test]
    fn what_is_built_is_left_out_and_nothing_else() {
        let built = BTreeSet::from([(PG_CLASS, 16403), (PG_CONSTRAINT, 16405), (PG_CLASS, 9)]);
        let kept: Vec<&str> = LIST.lines().filter(|line| !line.contains("3189;")).collect();
        let kept: Vec<&str> = kept.into_iter().filter(|line| !line.contains("3193;")).collect();
        assert_eq!(without(LIST, &built).lines().collect::<Vec<_>>(), kept);
        assert_eq!(without(LIST, &BTreeSet::new()), LIST);
    }

    proptest! {
        /// The law: only whole lines go, and only those that begin with numbers of a built object.
        #[test]
        fn any_text_is_filtered_by_lines(text in "[0-9; \na-c]{0,200}", catalog in 0..20_u32, oid in 0..20_u32) {
            let built = BTreeSet::from([(catalog, oid)]);
            let kept = without(&text, &built);
            let mut left = kept.split_inclusive('\n').peekable();
            for line in text.split_inclusive('\n') {
                if left.peek() == Some(&line) && object(line) != Some((catalog, oid)) {
                    left.next();
                } else {
                    prop_assert_eq!(object(line), Some((catalog, oid)));
                }
            }
            prop_assert!(left.next().is_none());
            prop_assert_eq!(without(&kept, &built), kept);
        }
    }
}
