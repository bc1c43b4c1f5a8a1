//! Quoting for a POSIX shell, in this one place.

/// One line that a POSIX shell splits back into exactly `words`.
pub fn shell_line(words: &[String]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) || word == "…" {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_words_stay_readable() {
        let words = ["pg_dump", "-d", "my db", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&words), r"pg_dump -d 'my db' 'it'\''s' ''");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The law: a real shell gives back what went in.
        #[test]
        fn a_shell_reads_back_the_same_words(words in prop::collection::vec("[^\0]{0,12}", 1..5)) {
            let script = format!("printf '%s\\0' {}", shell_line(&words));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let mut read: Vec<String> = String::from_utf8(output.stdout).unwrap().split('\0').map(str::to_owned).collect();
            read.pop();
            prop_assert_eq!(read, words);
        }
    }
}
