//! The text of a list of paths, with rsync's meaning: one a line (or ended by NUL), relative to the
//! root whatever they begin with; empty ones and those that begin with `#` or `;` are passed over.

use std::io::{self, BufRead, Read};

use super::Listed;
use crate::media::filter::Filter;
use crate::wire::names::{BadNames, NamesBuilder};
use crate::wire::path::{PATH_BYTES_MAX, RelPath};

/// The longest line; what it means may be shorter.
const LINE_BYTES_MAX: u64 = 4 * PATH_BYTES_MAX as u64;

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadList {
    #[error("cannot read the list of files")]
    Read(#[from] io::Error),
    #[error("line {line} of the list of files is no path: it is too long")]
    TooLong { line: u64 },
    #[error(transparent)]
    Names(#[from] BadNames),
}

impl Listed {
    /// The paths in `input` but for those that `filter` excludes. With `nul` they end with NUL
    /// instead of line feeds.
    pub fn read(
        input: impl BufRead,
        nul: bool,
        recursive: bool,
        filter: &Filter,
    ) -> Result<Self, BadList> {
        let mut names = NamesBuilder::default();
        each_line(input, nul, |line, text| {
            let (path, content) = clean(text).ok_or(BadList::TooLong { line })?;
            // Whether it is a directory is not known yet.
            if filter.excludes(&path, true) && filter.excludes(&path, false) {
                return Ok(());
            }
            Ok(names.add(&path, content)?)
        })?;
        Ok(Listed { names: names.finish()?, recursive })
    }
}

fn each_line(
    mut input: impl BufRead,
    nul: bool,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), BadList>,
) -> Result<(), BadList> {
    let end = if nul { 0 } else { b'\n' };
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(end, &mut text)?;
        if read == 0 {
            break;
        }
        if text.last() == Some(&end) {
            text.pop();
        } else if read as u64 == LINE_BYTES_MAX {
            return Err(BadList::TooLong { line });
        }
        if !nul && text.last() == Some(&b'\r') {
            text.pop();
        }
        if !matches!(text.first(), None | Some(b'#' | b';')) {
            take(line, &text)?;
        }
    }
    Ok(())
}

/// The path that `text` means, and whether the content of the directory is meant too. What leads
/// out of the root stays in it.
fn clean(text: &[u8]) -> Option<(RelPath, bool)> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut content = false;
    for part in text.split(|byte| *byte == b'/') {
        content = matches!(part, b"" | b"." | b"..");
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    let path = RelPath::new(&parts.join(&b'/')).ok()?;
    Some((path, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], nul: bool) -> Vec<String> {
        let listed = Listed::read(text, nul, false, &Filter::default()).unwrap();
        let mut all = Vec::new();
        let names = &listed.names;
        names.each_listed(names.root(), &RelPath::root(), &mut |path| all.push(path.to_string()));
        all
    }

    #[test]
    fn lines_are_paths_and_comments_are_not() {
        assert_eq!(read(b"a\r\n\n# b\n; c\n /d\n e #f\n", false), [" /d", " e #f", "a"]);
        assert_eq!(read(b"a\nb\0#c\0d\r", true), ["a\\nb", "d\\r"]);
        assert_eq!(read(b"", false), [""; 0]);
    }

    #[test]
    fn a_path_stays_in_the_root_and_a_slash_at_its_end_means_the_content() {
        let table: [(&str, &str, bool); 12] = [
            ("/a/b", "a/b", false),
            ("../../a", "a", false),
            ("a/../../b", "b", false),
            ("a/./b//c", "a/b/c", false),
            ("a/b/", "a/b", true),
            ("a/b/.", "a/b", true),
            ("a/b/..", "a", true),
            (".", ".", true),
            ("./", ".", true),
            ("/", ".", true),
            ("..", ".", true),
            ("...", "...", false),
        ];
        for (text, path, content) in table {
            let cleaned = clean(text.as_bytes()).unwrap();
            assert_eq!((cleaned.0.to_string(), cleaned.1), (path.to_owned(), content), "{text}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let text = vec![b'a'; 1 << 20];
        let error = Listed::read(&text[..], false, false, &Filter::default()).unwrap_err();
        assert!(matches!(error, BadList::TooLong { line: 1 }));
        let names = [&b"ok\n"[..], &[b'n'; 256][..]].concat();
        let error = Listed::read(&names[..], false, false, &Filter::default()).unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the list of files is no path: it is too long");
    }
}
