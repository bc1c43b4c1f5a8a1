use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::media::group::{self, Heading, channels, hold};
use crate::media::shard::Cutter;
use crate::wire::path::RelPath;
use crate::wire::tree::{GroupHead, Meta, MetaRule, OwnerRule};

type Tree = BTreeMap<String, u32>;

const RULE: MetaRule = MetaRule { whole_secs: false, owner: OwnerRule::Ignore };

fn directory(path: &str, mode: u32) -> Directory {
    Directory {
        path: RelPath::new(path.as_bytes()).unwrap(),
        meta: Some(Meta { mode, ..Meta::default() }),
        entries: Vec::new(),
        leftovers: Vec::new(),
        problems: Vec::new(),
    }
}

fn scanner(side: Side, tree: &Tree) -> Scanner {
    let mut dirs: Vec<Directory> = tree.iter().map(|(path, mode)| directory(path, *mode)).collect();
    dirs.sort_by(|one, other| one.path.cmp(&other.path));
    let (scanner, ends) = channels();
    let (sender, shards) = mpsc::channel(1);
    tokio::spawn(hold(shards, ends));
    tokio::spawn(async move {
        let mut cutter = Cutter::new(side, RULE);
        for (number, dir) in dirs.into_iter().enumerate() {
            let cut = cutter.push(dir);
            // Short shards, so that there are many.
            let cut = if number % 3 == 2 { cut.or_else(|| cutter.end()) } else { cut };
            if let Some(shard) = cut
                && sender.send(Some(shard)).await.is_err()
            {
                return;
            }
        }
        if let Some(shard) = cutter.end() {
            let _ = sender.send(Some(shard)).await;
        }
        let _ = sender.send(None).await;
    });
    scanner
}

fn trees() -> impl Strategy<Value = (Tree, Tree)> {
    let tree = prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", 0_u32..2, 0..200);
    let unlike = (tree.clone(), tree.clone()).prop_map(|(mut source, mut target)| {
        source.insert(String::new(), 0);
        target.insert(String::new(), 0);
        (source, target)
    });
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0_u32..4), 0..6);
    let alike = (tree, edits).prop_map(|(mut source, edits)| {
        source.insert(String::new(), 0);
        let mut target = source.clone();
        for (at, edit) in edits {
            let path = at.get(&source.keys().cloned().collect::<Vec<_>>()).clone();
            match edit {
                0 if !path.is_empty() => drop(target.remove(&path)),
                1 => drop(target.insert(format!("{path}zz").replace("/zz", "zz"), 1)),
                _ => drop(target.insert(path, 9)),
            }
        }
        (source, target)
    });
    prop_oneof![3 => alike, 1 => unlike]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The law: every directory comes once, paired with its like, and only what is equal is
    /// skipped. It comes to its end although both sides may be ahead by little.
    #[test]
    fn every_directory_comes_once((source, target) in trees()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut seen, mut skipped) = (BTreeSet::new(), 0);
        runtime.block_on(async {
            let mut merge = Merge::new(scanner(Side::Source, &source), scanner(Side::Target, &target));
            while let Some(pair) = merge.next().await.unwrap() {
                let text = |path: &RelPath| String::from_utf8(path.as_bytes().to_vec()).unwrap();
                match pair {
                    Pair::Equal(head) => skipped += head.dirs as usize,
                    Pair::Both(one, other) => {
                        assert_eq!(one.path, other.path);
                        assert!(seen.insert(text(&one.path)));
                    }
                    Pair::Source(dir) => {
                        assert!(!target.contains_key(&text(&dir.path)));
                        assert!(seen.insert(text(&dir.path)));
                    }
                    Pair::Target(dir) => {
                        assert!(!source.contains_key(&text(&dir.path)));
                        assert!(seen.insert(text(&dir.path)));
                    }
                }
            }
        });
        let all: BTreeSet<&String> = source.keys().chain(target.keys()).collect();
        prop_assert_eq!(seen.len() + skipped, all.len());
        for path in all {
            prop_assert!(source.get(path) == target.get(path) || seen.contains(path));
        }
    }
}

#[tokio::test]
async fn a_scan_that_breaks_off_is_no_empty_tree() {
    let (scanner_of_source, ends) = channels();
    drop(ends);
    let target = Tree::from([(String::new(), 0), ("a".to_owned(), 0)]);
    let mut merge = Merge::new(scanner_of_source, scanner(Side::Target, &target));
    assert_eq!(merge.next().await.unwrap_err(), MergeError::Broken(Side::Source));
}

fn head(first: &str, last: &str) -> ShardHead {
    ShardHead {
        index: 0,
        first: RelPath::new(first.as_bytes()).unwrap(),
        last: RelPath::new(last.as_bytes()).unwrap(),
        digest: [0; 16],
        files: 0,
        dirs: 1,
        bytes: 0,
    }
}

#[tokio::test]
async fn shards_that_are_not_those_of_their_group_are_refused() {
    let groups = [("", "b", 2), ("a", "a", 1)];
    let wrong = [
        vec![("", "d"), ("c", "a")],
        vec![("d", "c"), ("b", "b")],
        vec![("", "c"), ("c", "b")],
        vec![("", "b"), ("b", "b")],
        vec![("", "d"), ("c", "b"), ("b", "a")],
    ];
    for shards in wrong {
        let (scanner_of_source, ends) = channels();
        for (first, last, count) in groups {
            let group = GroupHead { whole: head(first, last), shards: count };
            ends.heads.send(Heading::Group(group)).await.unwrap();
        }
        for (first, last) in &shards {
            ends.heads.send(Heading::Shard(head(first, last))).await.unwrap();
        }
        let target = Tree::from([(String::new(), 7)]);
        let mut merge = Merge::new(scanner_of_source, scanner(Side::Target, &target));
        let refused = merge.next().await.unwrap_err();
        assert_eq!(refused, MergeError::Disorder(Side::Source), "{shards:?}");
    }
}

#[tokio::test]
async fn a_walk_that_goes_back_is_refused() {
    let (scanner_of_source, ends) = channels();
    for first in ["", "a", "b"] {
        let group = GroupHead { whole: head(first, first), shards: 1 };
        ends.heads.send(Heading::Group(group)).await.unwrap();
    }
    let target = Tree::from([(String::new(), 0)]);
    let mut merge = Merge::new(scanner_of_source, scanner(Side::Target, &target));
    assert_eq!(merge.next().await.unwrap_err(), MergeError::Disorder(Side::Source));
}

/// Most targets of a first copy are empty: over a long way each question would be paid for.
#[tokio::test]
async fn a_tree_that_is_hardly_there_need_not_be_asked() {
    let (target, ends) = channels();
    let (sender, shards) = mpsc::channel(2);
    let mut cutter = Cutter::new(Side::Target, RULE);
    assert!(cutter.push(directory("", 0)).is_none());
    sender.send(cutter.end()).await.unwrap();
    sender.send(None).await.unwrap();
    let group::ScannerEnds { heads, verdicts, contents } = ends;
    let (_asked, unasked) = mpsc::channel(1);
    tokio::spawn(hold(shards, group::ScannerEnds { heads, verdicts: unasked, contents }));
    let source = Tree::from([(String::new(), 1), ("a".into(), 0)]);
    let mut merge = Merge::new(scanner(Side::Source, &source), target);
    let first = merge.next().await.unwrap();
    assert!(matches!(&first, Some(Pair::Both(source, _)) if source.path.is_root()), "{first:?}");
    assert!(matches!(merge.next().await.unwrap(), Some(Pair::Source(_))));
    assert!(merge.next().await.unwrap().is_none());
    drop(verdicts);
}
