use super::*;
use crate::wire::bounded::Blob;
use crate::wire::tree::Mtime;

const RULES: Rules = Rules {
    link_times: true,
    delta: true,
    late_dirs: false,
    delete: true,
    in_place: false,
    keeps_parts: false,
};

fn meta(mode: u32, secs: i64) -> Meta {
    Meta { mode, mtime: Mtime { secs, nanos: 0 }, ..Meta::default() }
}

fn file(name: &str, size: u64, meta: Meta) -> Entry {
    let name = Name::new(name.as_bytes()).unwrap();
    Entry { name, node: Node::File { size, meta, content: None } }
}

fn directory(entries: Vec<Entry>) -> Directory {
    Directory {
        path: RelPath::new(b"d").unwrap(),
        meta: Some(meta(0o755, 1)),
        entries,
        leftovers: Vec::new(),
        problems: Vec::new(),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

#[test]
fn equal_directories_need_nothing() {
    let one = directory(vec![file("a", 1, meta(0o644, 5))]);
    let plan = both(&one, &one.clone(), &RULES);
    assert!(plan.ops.is_empty() && plan.files.is_empty() && plan.last.is_none());
    assert!(plan.deletions.is_empty() && plan.changes.is_empty());
}

#[test]
fn size_or_time_send_a_file_and_the_mode_alone_does_not() {
    let entries = |size, secs, mode| {
        vec![
            file("mode", 7, meta(mode, 5)),
            file("size", size, meta(0o644, 5)),
            file("time", 7, meta(0o644, secs)),
        ]
    };
    let source = directory(entries(8, 6, 0o600));
    let plan = both(&source, &directory(entries(7, 5, 0o644)), &RULES);
    let files: Vec<String> = plan.files.iter().map(|file| file.path.to_string()).collect();
    assert_eq!(files, ["d/size", "d/time"]);
    let set = Op::SetFile { path: path("d/mode"), meta: meta(0o600, 5) };
    let dir = Op::SetDir { path: path("d"), meta: meta(0o755, 1) };
    assert_eq!((plan.ops, plan.last), (vec![set], Some(dir)));
}

#[test]
fn a_part_of_a_file_is_used_if_it_is_of_this_file_and_swept_otherwise() {
    let long = 20 << 20;
    let source = directory(vec![file("dump", long, meta(0o644, 5))]);
    let names = |secs| {
        let name = Name::new(b"dump").unwrap();
        temp::partial_names(&name, long, Mtime { secs, nanos: 0 }).unwrap()
    };
    let (ours, stale) = (names(5), names(4));
    let mut target = directory(Vec::new());
    target.leftovers = vec![stale[0].clone(), ours[1].clone()];
    let plan = both(&source, &target, &RULES);
    let basis = target.path.join(&ours[1]).unwrap();
    assert_eq!(
        plan.files,
        [Transfer { path: path("d/dump"), size: long, basis: Some(basis), kept: None }]
    );
    let swept = Deletion::Leftover(path("d"), stale[0].clone());
    assert_eq!(plan.deletions[1..], [swept]);
    // A file that is there is the better basis.
    target.entries = vec![file("dump", long - 1, meta(0o644, 5))];
    let plan = both(&source, &target, &RULES);
    assert_eq!(plan.files[0].basis, Some(path("d/dump")));
    assert_eq!(plan.deletions.len(), 3);
}

#[test]
fn a_problem_on_the_source_keeps_everything_on_the_target() {
    let mut source = directory(Vec::new());
    let failure = Failure::new(FailureKind::Denied, "no");
    source.problems.push(Problem { path: path("d/secret"), failure });
    let target = directory(vec![file("a", 1, meta(0o644, 5))]);
    assert_eq!(both(&source, &target, &RULES).deletions, []);
    source.problems.clear();
    let restore = Deletion::Restore(path("d"), meta(0o755, 1));
    assert_eq!(both(&source, &target, &RULES).deletions, [restore, Deletion::File(path("d/a"))]);
}

#[test]
fn symlink_times_count_only_where_both_sides_have_them() {
    let link = |secs| Entry {
        name: Name::new(b"l").unwrap(),
        node: Node::Link { meta: meta(0o777, secs), text: Blob(b"to".to_vec()) },
    };
    let (source, target) = (directory(vec![link(1)]), directory(vec![link(2)]));
    assert!(!both(&source, &target, &RULES).ops.is_empty());
    let coarse = Rules { link_times: false, ..RULES };
    assert!(both(&source, &target, &coarse).ops.is_empty());
}
