use super::*;
use proptest::prelude::*;

fn values(text: &str) -> Vec<(String, String)> {
    let file = EnvFile::parse(text.as_bytes()).unwrap();
    let keys: Vec<String> = file.keys().map(str::to_owned).collect();
    keys.into_iter()
        .map(|key| {
            let value = file.get(&key).map_or("<command>".into(), |secret| secret.expose().into());
            (key, value)
        })
        .collect()
}

/// The cases of dotenv's own specification, and what was observed of version 3.2 beyond them.
#[test]
fn reads_what_dotenv_reads() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("FOO=bar", &[("FOO", "bar")]),
        ("FOO = bar", &[("FOO", "bar")]),
        ("  FOO=bar  ", &[("FOO", "bar")]),
        ("FOO=bar\\ bar", &[("FOO", "bar bar")]),
        ("FOO=\"bar\"  ", &[("FOO", "bar")]),
        ("FOO='bar'  ", &[("FOO", "bar")]),
        ("FOO=\"escaped\\\"bar\"", &[("FOO", "escaped\"bar")]),
        ("FOO=", &[("FOO", "")]),
        ("FOO", &[("FOO", "")]),
        ("FOO=test\nBAR=$FOO", &[("BAR", "test"), ("FOO", "test")]),
        ("FOO=test\nBAR=${FOO}bar", &[("BAR", "testbar"), ("FOO", "test")]),
        ("BAR=$FOO", &[("BAR", "")]),
        ("FOO=test\nBAR=\"quote $FOO\"", &[("BAR", "quote test"), ("FOO", "test")]),
        ("BAR='quote $FOO'", &[("BAR", "quote $FOO")]),
        ("FOO=\"foo\\$BAR\"", &[("FOO", "foo$BAR")]),
        ("FOO=\"foo\\${BAR}\"", &[("FOO", "foo${BAR}")]),
        ("OPTION_A: 1", &[("OPTION_A", "1")]),
        ("export OPTION_A=2", &[("OPTION_A", "2")]),
        ("OPTION_A=2\nexport OPTION_A", &[("OPTION_A", "2")]),
        ("export=yes", &[("export", "yes")]),
        ("FOO=\"bar\nbaz\"", &[("FOO", "bar\nbaz")]),
        ("FOO=\"bar\\nbaz\"", &[("FOO", "bar\\nbaz")]),
        (
            "DOTENV_LINEBREAK_MODE=legacy\nFOO=\"a\\nb\"",
            &[("DOTENV_LINEBREAK_MODE", "legacy"), ("FOO", "a\nb")],
        ),
        ("FOO.BAR=foobar", &[("FOO.BAR", "foobar")]),
        ("lol$wut", &[]),
        ("two words", &[]),
        ("\n \t  \nfoo=bar\n \nfizz=buzz", &[("fizz", "buzz"), ("foo", "bar")]),
        ("foo=bar # this is foo", &[("foo", "bar")]),
        ("foo=bar#this", &[("foo", "bar")]),
        ("foo=\"bar#baz\" # comment", &[("foo", "bar#baz")]),
        ("foo= 'bar#baz'# comment", &[("foo", "bar#baz")]),
        ("# HELLO=world\n", &[]),
        ("A=\nB=root\nC=/tmp/x.sock", &[("A", ""), ("B", "root"), ("C", "/tmp/x.sock")]),
        (
            "A='line 1\nthis is \\'quoted\\'\nlast'\nB=1",
            &[("A", "line 1\nthis is \\'quoted\\'\nlast"), ("B", "1")],
        ),
        (
            "A=\"one\nthis is \\\"quoted\\\"\nlast\"\nB=1",
            &[("A", "one\nthis is \"quoted\"\nlast"), ("B", "1")],
        ),
        ("A=\"ends with \\\"\nB=1", &[("A", "ends with \\"), ("B", "1")]),
        ("A=\"open\nB=1", &[("A", "\"open"), ("B", "1")]),
        ("A=\"x\" y\n", &[("A", "\"x\" y")]),
        ("A=$(echo hello)", &[("A", "<command>")]),
        ("A=x-\\$(echo hello)", &[("A", "x-$(echo hello)")]),
        ("A='$(echo hello)'", &[("A", "$(echo hello)")]),
        ("FOO=bar\rbaz=fbb", &[("FOO", "bar"), ("baz", "fbb")]),
        ("FOO=\"bar\r\nx\"\r\nbaz=fbb", &[("FOO", "bar\nx"), ("baz", "fbb")]),
        ("FOO=\"bar\\$ \\$\\$\"", &[("FOO", "bar$ $$")]),
        ("FOO=\"bar $ \"", &[("FOO", "bar $ ")]),
        ("FOO=pa$$word", &[("FOO", "pa$")]),
        ("FOO=1\nFOO=2", &[("FOO", "2")]),
        ("\u{feff}FOO=1", &[("FOO", "1")]),
        ("FOO=héhé", &[("FOO", "héhé")]),
    ];
    for (text, expected) in cases {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        assert_eq!(values(text), expected, "{text:?}");
    }
}

#[test]
fn refuses_what_mastodon_could_not_load_and_names_the_line() {
    let error = EnvFile::parse(b"A=1\nB=\xff\n").unwrap_err();
    assert_eq!(error, EnvFileError::NotText { line: 2 });
    let error = EnvFile::parse(b"A=1\r\nexport B\r\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2 exports B, which is not set before");
}

fn changes(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
}

fn edited(text: &str, pairs: &[(&str, &str)]) -> String {
    let file = EnvFile::parse(text.as_bytes()).unwrap().with(&changes(pairs)).unwrap();
    String::from_utf8(file.to_bytes().to_vec()).unwrap()
}

#[test]
fn an_edit_keeps_comments_order_quotes_and_line_ends_of_everything_else() {
    let text = "# Federation\nLOCAL_DOMAIN=old.example\r\nexport DB_HOST = 'localhost' # where\n\
                DB_PASS=\"s3cr\\\"et\"\nEMPTY=#note\nBARE\nlast='line'";
    let expected = "# Federation\nLOCAL_DOMAIN=old.example\r\nexport DB_HOST = /run/pg # where\n\
                    DB_PASS='it costs $5'\nEMPTY=full #note\nBARE=x\nlast='line'\nNEW='a b'\n";
    let pairs = [
        ("BARE", "x"),
        ("DB_HOST", "/run/pg"),
        ("DB_PASS", "it costs $5"),
        ("EMPTY", "full"),
        ("NEW", "a b"),
    ];
    assert_eq!(edited(text, &pairs), expected);
}

#[test]
fn the_value_that_counts_is_the_one_that_is_changed() {
    assert_eq!(edited("A=1\nB=$A\nA=2\n", &[("A", "3")]), "A=1\nB=$A\nA=3\n");
}

#[test]
fn what_only_begins_like_a_command_is_written() {
    for value in ["'$(", "'$(a", "'$()", "'$ $(\"b"] {
        let file = EnvFile::parse(b"").unwrap().with(&changes(&[("A", value)])).unwrap();
        assert_eq!(file.get("A"), Some(Secret::new(value)), "{value}");
    }
}

#[test]
fn an_open_quote_cannot_swallow_what_is_appended() {
    let file = EnvFile::parse(b"A=\"open\n").unwrap();
    let error = file.with(&changes(&[("B", "#'")])).unwrap_err();
    assert_eq!(error, EnvFileError::Unwritable { key: "B".into() });
    assert_eq!(edited("A=\"open\n", &[("B", "1")]), "A=\"open\nB=1\n");
}

#[test]
fn the_difference_shows_where_things_are_and_no_secret() {
    let old = EnvFile::parse(b"DB_HOST=a\nDB_PASS=hunter2\nSECRET_KEY_BASE=abc\nGONE=1\n").unwrap();
    let new = EnvFile::parse(b"DB_HOST=b\nDB_PASS=hunter3\nSECRET_KEY_BASE=abc\nPORT=1\n").unwrap();
    let lines: Vec<String> = old.redacted_diff(&new).iter().map(DiffLine::to_string).collect();
    assert_eq!(
        lines,
        ["~ DB_HOST: a -> b", "~ DB_PASS: [secret]", "- GONE: [secret]", "+ PORT: 1"]
    );
    assert!(!format!("{old:?}").contains("hunter2"));
}

fn a_file() -> impl Strategy<Value = String> {
    let key = "[A-C]{1,2}";
    let value = r##"[a-z$\\'"#\n (){}=]{0,8}"##;
    let line = (key, "( ?= ?|: |)", value, "( # c|)")
        .prop_map(|(key, equals, value, comment)| format!("{key}{equals}{value}{comment}"));
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
}

proptest! {
    /// The laws: reading loses no byte; no bytes make it panic.
    #[test]
    fn what_is_read_is_kept_byte_for_byte(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(file) = EnvFile::parse(&bytes) {
            prop_assert_eq!(file.to_bytes(), &bytes[..]);
        }
    }

    /// The laws: the key gets its value, no other key's text changes, and doing it again changes
    /// nothing.
    #[test]
    fn an_edit_changes_its_key_alone(text in a_file(), key in "[A-D]{1,2}", value in "[ -~\n]{0,12}") {
        let Ok(file) = EnvFile::parse(text.as_bytes()) else { return Ok(()) };
        let wanted = changes(&[(&key, &value)]);
        let Ok(edited) = file.with(&wanted) else { return Ok(()) };
        prop_assert_eq!(edited.get(&key), Some(Secret::new(value)));
        let others = |file: &EnvFile| -> Vec<(String, Option<Secret>)> {
            let refers = |statement: &Statement| text.contains(&format!("${}", statement.key));
            let refers = file.statements.iter().any(refers) || text.contains('{');
            file.keys().filter(|other| *other != key && !refers).map(|other| (other.to_owned(), file.get(other))).collect()
        };
        prop_assert_eq!(others(&file), others(&edited));
        prop_assert_eq!(edited.with(&wanted).unwrap(), edited);
    }

    /// The law: in a file without open quotes, every text can be written. (dotenv takes a
    /// backslash before the closing quote for an escape, so one at the end may be refused.)
    #[test]
    fn every_value_can_be_written(value in r"([^\x00\r]{0,24}[^\x00\r\\])?") {
        let file = EnvFile::parse(b"A=1\nDB_PASS=x # y\nB='2'\n").unwrap();
        let edited = file.with(&changes(&[("DB_PASS", &value), ("NEW", &value)])).unwrap();
        for key in ["DB_PASS", "NEW"] {
            prop_assert_eq!(edited.get(key), Some(Secret::new(value.clone())));
        }
    }
}
