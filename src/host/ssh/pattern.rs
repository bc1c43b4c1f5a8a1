//! Patterns of ssh_config(5) and known_hosts: `*`, `?`, and lists with `!`.

/// Whether `text` as a whole matches `pattern`, in which `*` is any run and `?` any character.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on if the run that the last `*` stands for must be longer.
    let mut retry: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[from] => {
                at += 1;
                from += 1;
            }
            Some(_) | None => match retry {
                Some((after_star, start)) => {
                    retry = Some((after_star, start + 1));
                    at = after_star;
                    from = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Whether a list of patterns admits `text`: one matches, and no `!` one does.
pub fn list_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut admitted = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, text) => return false,
            Some(_) => {}
            None => admitted |= matches(pattern, text),
        }
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_with_a_negation_leave_out_what_it_names() {
        assert!(list_matches(["*.example.com", "!old.example.com"], "new.example.com"));
        assert!(!list_matches(["*.example.com", "!old.example.com"], "old.example.com"));
        assert!(!list_matches(["!old"], "new"));
    }

    /// The same by the definition, in exponential time.
    fn defined(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => defined(rest, text),
            (Some(('*', rest)), Some((_, shorter))) => {
                defined(rest, text) || defined(pattern, shorter)
            }
            (Some((wanted, rest)), Some((found, shorter))) => {
                (*wanted == '?' || wanted == found) && defined(rest, shorter)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_its_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), defined(&p, &t));
        }
    }
}
