//! Mastodon's version, from the Ruby that holds it.

use std::fmt;

/// A version of Mastodon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
    /// `alpha.4`, `rc1`, or a fork's mark.
    pub prerelease: Option<String>,
}

impl Version {
    /// From `lib/mastodon/version.rb`: methods that give a number or a string each. Before 4.2
    /// the prerelease was called `flags`.
    pub fn parse(ruby: &str) -> Option<Version> {
        let number = |method| literal(ruby, method).and_then(|text| text.parse().ok());
        let words = ["default_prerelease", "flags"].into_iter().filter_map(|it| literal(ruby, it));
        let prerelease = words
            .filter_map(|text| text.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"']))
            .find(|text| !text.is_empty());
        Some(Version {
            major: number("major")?,
            minor: number("minor")?,
            patch: number("patch").unwrap_or(0),
            prerelease: prerelease.map(str::to_owned),
        })
    }

    /// Whether this is `major.minor` or later; prereleases of it count.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match &self.prerelease {
            Some(text) => write!(out, "-{text}"),
            None => Ok(()),
        }
    }
}

/// The first line of the body of `method`.
fn literal<'a>(ruby: &'a str, method: &str) -> Option<&'a str> {
    let mut lines = ruby.lines().map(str::trim);
    lines.find(|line| line.strip_prefix("def ").is_some_and(|name| name.trim() == method))?;
    lines.find(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruby(methods: &[(&str, &str)]) -> String {
        let body: String = methods
            .iter()
            .map(|(name, value)| format!("    def {name}\n      {value}\n    end\n\n"))
            .collect();
        format!(
            "# frozen_string_literal: true\n\nmodule Mastodon\n  module Version\n    \
             module_function\n\n{body}  end\nend\n"
        )
    }

    #[test]
    fn as_the_releases_write_it() {
        let number = [("major", "4"), ("minor", "6"), ("patch", "5")];
        let release = ruby(&[&number[..], &[("default_prerelease", "''")]].concat());
        let version = Version::parse(&release).unwrap();
        assert_eq!(version.to_string(), "4.6.5");
        assert!(version.at_least(4, 4) && version.at_least(4, 6) && !version.at_least(4, 7));
        let computed = [
            ("default_prerelease", "'alpha.4'"),
            ("prerelease", "version_configuration[:prerelease].presence || default_prerelease"),
        ];
        let alpha = ruby(&[&number[..], &computed].concat());
        assert_eq!(Version::parse(&alpha).unwrap().to_string(), "4.6.5-alpha.4");
        let old = ruby(&[("major", "3"), ("minor", "5"), ("patch", "0"), ("flags", "'rc1'")]);
        assert_eq!(Version::parse(&old).unwrap().to_string(), "3.5.0-rc1");
    }

    #[test]
    fn what_a_fork_made_of_it_is_not_guessed() {
        assert_eq!(
            Version::parse(&ruby(&[("upstream_major", "4"), ("upstream_minor", "3")])),
            None
        );
        assert_eq!(Version::parse("MAJOR = 4\nMINOR = 3\n"), None);
        assert_eq!(Version::parse(""), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(def (major|minor|flags)|\n| |'|\"|4|end){0,20}") {
            let _ = Version::parse(&text);
        }
    }
}
