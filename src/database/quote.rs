//! Quoting for SQL and for libpq's connection strings, in this one place.

/// `name` as an SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, both quoted.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// `text` as an SQL string that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `text` as a value in a libpq connection string.
pub fn conninfo_value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `text` as a field of a password file.
pub fn passfile_field(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_survive() {
        assert_eq!(ident(r#"my "odd" table"#), r#""my ""odd"" table""#);
        assert_eq!(literal(r"it's a \ slash"), r"E'it''s a \\ slash'");
        assert_eq!(conninfo_value(r"it's a \ slash"), r"'it\'s a \\ slash'");
        assert_eq!(passfile_field(r"a:b\c"), r"a\:b\\c");
    }
}
