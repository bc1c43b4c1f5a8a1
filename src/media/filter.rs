//! `--exclude`: patterns with rsync's meaning, over names as bytes. Pure.
//!
//! A leading `/` ties a pattern to the root, a trailing one to directories. A pattern without any
//! other `/` and without `**` is matched against the name alone, any other against the end of the
//! path. `*` and `?` stop at `/`, `**` does not; `[…]` is a class; `\` takes what follows
//! literally. `dir/***` means `dir` and all in it. What is excluded is not looked into, not
//! transferred, and on the target neither compared nor deleted.
//!
//! The first pattern that matches decides. `+ PATTERN` keeps what it matches, `- PATTERN` is the
//! same as `PATTERN`.

use crate::wire::path::RelPath;

/// Patterns, compiled.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    excludes: bool,
    pattern: Pattern,
}

#[derive(Clone, Debug)]
struct Pattern {
    glob: Vec<u8>,
    anchored: bool,
    dirs_only: bool,
    /// Matched against the path rather than the name.
    whole_path: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{}` excludes nothing: it names no file", .0.escape_ascii())]
pub struct BadPattern(pub Vec<u8>);

impl Filter {
    pub fn new<P: AsRef<[u8]>>(patterns: &[P]) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for text in patterns {
            let text = text.as_ref();
            let (excludes, pattern) = match text {
                [b'+', b' ', pattern @ ..] => (false, pattern),
                [b'-', b' ', pattern @ ..] => (true, pattern),
                pattern => (true, pattern),
            };
            // As in rsync, `x/***` is `x/` and `x/**`.
            let patterns = match pattern.strip_suffix(b"/***") {
                Some(dir) => vec![[dir, b"/"].concat(), [dir, b"/**"].concat()],
                None => vec![pattern.to_vec()],
            };
            for pattern in patterns {
                rules.push(Rule { excludes, pattern: Pattern::new(&pattern)? });
            }
        }
        Ok(Filter(rules))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the entry at `path` is to be left alone.
    pub fn excludes(&self, path: &RelPath, is_dir: bool) -> bool {
        let first = self.0.iter().find(|rule| rule.pattern.matches(path.as_bytes(), is_dir));
        first.is_some_and(|rule| rule.excludes)
    }
}

impl Pattern {
    fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let (anchored, rest) = match pattern.strip_prefix(b"/") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let (dirs_only, glob) = match rest.strip_suffix(b"/") {
            Some(glob) => (true, glob),
            None => (false, rest),
        };
        if glob.is_empty() || glob.contains(&0) {
            return Err(BadPattern(pattern.to_vec()));
        }
        let whole_path =
            anchored || glob.contains(&b'/') || glob.windows(2).any(|pair| pair == b"**");
        Ok(Pattern { glob: glob.to_vec(), anchored, dirs_only, whole_path })
    }

    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.dirs_only && !is_dir {
            return false;
        }
        if self.anchored {
            return glob_matches(&self.glob, path);
        }
        let mut starts =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
        if self.whole_path {
            // `**/` at the beginning may also stand for nothing.
            let stars = self.glob.iter().take_while(|byte| **byte == b'*').count();
            if stars > 1
                && let Some(rest) = self.glob[stars..].strip_prefix(b"/")
                && glob_matches(rest, path)
            {
                return true;
            }
            std::iter::once(0).chain(starts).any(|at| glob_matches(&self.glob, &path[at..]))
        } else {
            glob_matches(&self.glob, &path[starts.next_back().unwrap_or(0)..])
        }
    }
}

/// Whether all of `text` matches `glob`. Each star is tried again only from where the last one
/// began, so the time stays within the product of the lengths (twice, for the two kinds).
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    // Where to go on if what follows the last star of each kind does not match.
    let (mut star, mut double) = (None::<(usize, usize)>, None::<(usize, usize)>);
    loop {
        let matched = match glob.get(at) {
            Some(b'*') => {
                let run = glob[at..].iter().take_while(|byte| **byte == b'*').count();
                at += run;
                if run > 1 {
                    (star, double) = (None, Some((at, pos)));
                } else {
                    star = Some((at, pos));
                }
                continue;
            }
            Some(_) => match text.get(pos) {
                Some(byte) => match_one(&glob[at..], *byte).inspect(|used| {
                    at += used;
                    pos += 1;
                }),
                None => None,
            },
            None if pos == text.len() => return true,
            None => None,
        };
        if matched.is_some() {
            continue;
        }
        // A single star grows by one byte that is no separator; failing that, the double one.
        match (star, double) {
            (Some((after, from)), _) if text.get(from).is_some_and(|byte| *byte != b'/') => {
                star = Some((after, from + 1));
                (at, pos) = (after, from + 1);
            }
            (_, Some((after, from))) if from < text.len() => {
                star = None;
                double = Some((after, from + 1));
                (at, pos) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many bytes of `glob` the first item takes, if it matches `byte`.
fn match_one(glob: &[u8], byte: u8) -> Option<usize> {
    match glob[0] {
        b'?' => (byte != b'/').then_some(1),
        b'\\' if glob.len() > 1 => (glob[1] == byte).then_some(2),
        b'[' => match class(glob) {
            Some((items, used)) => (byte != b'/' && in_class(items, byte)).then_some(used),
            // Never closed: an ordinary letter.
            None => (byte == b'[').then_some(1),
        },
        letter => (letter == byte).then_some(1),
    }
}

/// The inside of the class that `glob` begins with, and its length with the brackets.
fn class(glob: &[u8]) -> Option<(&[u8], usize)> {
    let negated = matches!(glob.get(1), Some(b'!' | b'^'));
    // A `]` right at the beginning belongs to the class.
    let first = if negated { 2 } else { 1 };
    let close = glob.iter().skip(first + 1).position(|byte| *byte == b']')? + first + 1;
    Some((&glob[1..close], close + 1))
}

fn in_class(items: &[u8], byte: u8) -> bool {
    let (negated, items) = match items {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, items),
    };
    let mut found = false;
    let mut at = 0;
    while at < items.len() {
        if let [low, b'-', high, ..] = items[at..] {
            found |= (low..=high).contains(&byte);
            at += 3;
        } else {
            found |= items[at] == byte;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn excluded(pattern: &str, path: &str) -> bool {
        // A trailing slash in the table marks a directory.
        let (path, is_dir) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let path = RelPath::new(path.as_bytes()).unwrap();
        Filter::new(&[pattern]).unwrap().excludes(&path, is_dir)
    }

    #[test]
    fn patterns_mean_what_they_mean_in_rsync() {
        let table = [
            ("*.tmp", "a.tmp", true),
            ("*.tmp", "x/y/a.tmp", true),
            ("*.tmp", "a.tmp/", true),
            ("*.tmp", "a.tmpx", false),
            ("cache", "cache/", true),
            ("cache", "x/cache", true),
            ("cache/", "cache", false),
            ("cache/", "x/cache/", true),
            ("/cache/", "cache/", true),
            ("/cache/", "x/cache/", false),
            ("/a/b", "a/b", true),
            ("/a/b", "x/a/b", false),
            ("a/b", "x/a/b", true),
            ("a/b", "xa/b", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("/a/**", "a/b/c", true),
            ("/a/**", "a/", false),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/z", false),
            ("**/z", "z", true),
            ("**/a/**", "a/b", true),
            ("**/a/**", "a/", false),
            ("***/z", "z", true),
            ("**/z", "a/b/z", true),
            ("**z", "a/b/yz", true),
            ("dir/***", "x/dir/", true),
            ("dir/***", "dir/a/b", true),
            ("dir/***", "dir", false),
            ("?.png", "a.png", true),
            ("a?b", "a/b", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[", "[", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(excluded(pattern, path), expected, "{pattern} against {path}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let filter = Filter::new(&["+ /cache/", "+ /cache/keep/***", "- *.tmp", "/cache/*"]);
        let filter = filter.unwrap();
        for (path, is_dir, expected) in [
            ("cache", true, false),
            ("cache/keep", true, false),
            ("cache/keep/a.tmp", false, false),
            ("cache/drop", true, true),
            ("a.tmp", false, true),
            ("a.png", false, false),
        ] {
            let path = RelPath::new(path.as_bytes()).unwrap();
            assert_eq!(filter.excludes(&path, is_dir), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_that_names_nothing_is_refused() {
        for pattern in ["", "/", "//", "+ ", "- /"] {
            assert!(Filter::new(&[pattern]).is_err(), "{pattern}");
        }
    }

    proptest! {
        /// The law: a glob without special letters matches itself and nothing else.
        #[test]
        fn plain_names_match_themselves(name in "[a-z.]{1,8}", other in "[a-z.]{1,8}") {
            prop_assert_eq!(glob_matches(name.as_bytes(), other.as_bytes()), name == other);
        }

        /// The law: against a slow matcher that is obviously right.
        #[test]
        fn agrees_with_the_obvious_matcher(glob in "[ab/*?]{0,7}", text in "[ab/]{0,8}") {
            prop_assert_eq!(glob_matches(glob.as_bytes(), text.as_bytes()), obvious(glob.as_bytes(), text.as_bytes()));
        }
    }

    fn obvious(glob: &[u8], text: &[u8]) -> bool {
        match glob {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => {
                let rest = &rest[rest.iter().take_while(|byte| **byte == b'*').count()..];
                (0..=text.len()).any(|at| obvious(rest, &text[at..]))
            }
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|at| !text[..*at].contains(&b'/'))
                .any(|at| obvious(rest, &text[at..])),
            [b'?', rest @ ..] => {
                matches!(text, [byte, ..] if *byte != b'/') && obvious(rest, &text[1..])
            }
            [letter, rest @ ..] => text.first() == Some(letter) && obvious(rest, &text[1..]),
        }
    }
}
