//! The grammar of nginx's configuration: bytes in, a tree of directives out, each with the place
//! where it stands, so that an edit can leave every other byte alone. Pure; knows no directive by
//! its meaning. `include` is a directive like any other: the file it names is not read.

use std::ops::Range;

/// Deeper nesting is not a configuration that a person wrote.
const DEPTH_MAX: usize = 64;

/// One directive: its words, and its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The name and its arguments, without quotes and escapes.
    pub words: Vec<String>,
    /// From its first byte to after its `;` or `}`.
    pub span: Range<usize>,
    pub block: Option<Block>,
}

/// What is between `{` and `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The bytes between the braces.
    pub inside: Range<usize>,
    pub directives: Vec<Directive>,
}

/// Why the bytes are not a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxError {
    pub line: usize,
    pub problem: &'static str,
}

impl Directive {
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub fn children(&self) -> &[Directive] {
        self.block.as_ref().map_or(&[], |block| &block.directives)
    }
}

/// The directives in `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Vec<Directive>, SyntaxError> {
    let mut lexer = Lexer { bytes, at: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut list = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut start = 0;
    while let Some((token, span)) = lexer.next()? {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    start = span.start;
                }
                words.push(word);
            }
            Token::End | Token::Open if words.is_empty() => {
                return Err(lexer.error(span.start, "a directive without a name"));
            }
            Token::End => {
                let words = std::mem::take(&mut words);
                list.push(Directive { words, span: start..span.end, block: None });
            }
            Token::Open if words[0].ends_with("_by_lua_block") => {
                return Err(
                    lexer.error(span.start, "a block of Lua, which transhume does not read")
                );
            }
            Token::Open if open.len() == DEPTH_MAX => {
                return Err(lexer.error(span.start, "blocks nested too deep"));
            }
            Token::Open => {
                let words = std::mem::take(&mut words);
                let outer = std::mem::take(&mut list);
                open.push(Open { words, start, inside: span.end, outer });
            }
            Token::Close if !words.is_empty() => {
                return Err(lexer.error(span.start, "a directive without `;` before `}`"));
            }
            Token::Close => {
                let Some(opened) = open.pop() else {
                    return Err(lexer.error(span.start, "a `}` that closes nothing"));
                };
                let directives = std::mem::replace(&mut list, opened.outer);
                let block = Block { inside: opened.inside..span.start, directives };
                let span = opened.start..span.end;
                list.push(Directive { words: opened.words, span, block: Some(block) });
            }
        }
    }
    if !words.is_empty() {
        return Err(lexer.error(start, "a directive without its `;`"));
    }
    match open.last() {
        Some(opened) => Err(lexer.error(opened.start, "a block without its `}`")),
        None => Ok(list),
    }
}

/// A block that is not closed yet.
struct Open {
    words: Vec<String>,
    start: usize,
    inside: usize,
    outer: Vec<Directive>,
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// The rules of nginx's `ngx_conf_read_token`.
struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<(Token, Range<usize>)>, SyntaxError> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let Some(&first) = self.bytes.get(start) else { return Ok(None) };
        let token = match first {
            b';' => self.sign(Token::End),
            b'{' => self.sign(Token::Open),
            b'}' => self.sign(Token::Close),
            b'"' | b'\'' => Token::Word(self.quoted(first)?),
            _ => Token::Word(self.bare()),
        };
        Ok(Some((token, start..self.at)))
    }

    fn sign(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn skip_blanks_and_comments(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            if byte == b'#' {
                let rest = &self.bytes[self.at..];
                self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            } else if is_blank(byte) {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, SyntaxError> {
        let start = self.at;
        let mut text = Vec::new();
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.escaped(&mut text),
                _ if byte == quote => {
                    // What follows must end the word; nginx lets a `)` pass for `if ("…")`.
                    return match self.bytes.get(self.at) {
                        Some(&next) if !is_blank(next) && !b";{)".contains(&next) => {
                            Err(self.error(self.at, "text that follows a closing quote"))
                        }
                        Some(_) | None => Ok(String::from_utf8_lossy(&text).into_owned()),
                    };
                }
                _ => text.push(byte),
            }
        }
        Err(self.error(start, "a quote that is not closed"))
    }

    fn bare(&mut self) -> String {
        let mut text = Vec::new();
        let mut variable = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            let opens_name = byte == b'{' && variable;
            if !opens_name && (is_blank(byte) || byte == b';' || byte == b'{') {
                break;
            }
            self.at += 1;
            variable = byte == b'$';
            if byte == b'\\' { self.escaped(&mut text) } else { text.push(byte) }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Takes the byte after a backslash: nginx drops the backslash before quotes and itself,
    /// knows `\t`, `\r`, `\n`, and keeps it before anything else (as regular expressions need).
    fn escaped(&mut self, text: &mut Vec<u8>) {
        let Some(&byte) = self.bytes.get(self.at) else {
            text.push(b'\\');
            return;
        };
        self.at += 1;
        match byte {
            b'"' | b'\'' | b'\\' => text.push(byte),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'n' => text.push(b'\n'),
            _ => text.extend([b'\\', byte]),
        }
    }

    fn error(&self, at: usize, problem: &'static str) -> SyntaxError {
        let before = &self.bytes[..at.min(self.bytes.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        SyntaxError { line, problem }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// `text` as one word of a configuration. It must not hold a `$`: nginx has no way to escape it
/// where variables are expanded.
pub fn quote(text: &str) -> String {
    debug_assert!(!text.contains('$'), "nginx would take it for a variable");
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(list: &[Directive]) -> String {
        list.iter()
            .map(|directive| match &directive.block {
                Some(block) => {
                    format!("{}{{{}}}", directive.words.join("|"), shape(&block.directives))
                }
                None => format!("{};", directive.words.join("|")),
            })
            .collect()
    }

    #[test]
    fn reads_quotes_comments_variables_and_nesting() {
        let text = br#"
            # a comment with { and ; and "
            map $http_upgrade $connection_upgrade { default upgrade; '' close; }
            server{listen 80;#glued
                location ~ "^/[0-9]{3}" { return 200 'it\'s; {fine}'; }
                set $a ${b}c;
                if ($http_accept ~* text\/html) { }
                location ~ \.(png|jpg)$ { expires 1d; }
            }"#;
        assert_eq!(
            shape(&parse(text).unwrap()),
            "map|$http_upgrade|$connection_upgrade{default|upgrade;|close;}\
             server{listen|80;location|~|^/[0-9]{3}{return|200|it's; {fine};}\
             set|$a|${b}c;if|($http_accept|~*|text\\/html){}location|~|\\.(png|jpg)${expires|1d;}}"
        );
    }

    #[test]
    fn places_are_those_of_the_bytes() {
        let text = b"a 1; server { listen 80; } b;";
        let list = parse(text).unwrap();
        assert_eq!(&text[list[1].span.clone()], b"server { listen 80; }");
        assert_eq!(&text[list[1].block.as_ref().unwrap().inside.clone()], b" listen 80; ");
    }

    #[test]
    fn broken_files_are_told_with_their_line() {
        for (text, message) in [
            ("a;\nserver {\n", "line 2: a block without its `}`"),
            ("a;\n}", "line 2: a `}` that closes nothing"),
            ("\n\nlisten 80", "line 3: a directive without its `;`"),
            ("a { b }", "line 1: a directive without `;` before `}`"),
            ("a 'b\nc", "line 1: a quote that is not closed"),
            ("a 'b'c;", "line 1: text that follows a closing quote"),
            (";", "line 1: a directive without a name"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn a_file_of_open_braces_is_refused_not_recursed_into() {
        let text = "a {".repeat(100_000);
        assert_eq!(parse(text.as_bytes()).unwrap_err().problem, "blocks nested too deep");
    }

    proptest! {
        /// Whatever the bytes: an answer, and places inside them.
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(list) = parse(&bytes) {
                for directive in list {
                    prop_assert!(directive.span.end <= bytes.len());
                }
            }
        }

        #[test]
        fn never_panics_on_what_looks_like_a_configuration(text in "[a ;{}'\"#$\\\\\n]{0,60}") {
            let _ = parse(text.as_bytes());
        }

        /// The law: a quoted word is read back as it was.
        #[test]
        fn quoted_words_survive(text in "[^$\0]{0,40}") {
            let line = format!("return 503 {};", quote(&text));
            let list = parse(line.as_bytes()).unwrap();
            prop_assert_eq!(&list[0].words[2], &text);
        }
    }
}
