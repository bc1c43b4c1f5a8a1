//! Values of options as they are typed.

use crate::media::{DeleteLimit, Owner};

/// A rate in bytes a second; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Rate(pub Option<u64>);

/// As rsync reads it: KiB without a letter, `B`, `K`, `M` or `G` otherwise, 0 for no limit.
pub(in crate::cli) fn rate(text: &str) -> Result<Rate, String> {
    let expected = || "expected a rate such as 500K, 20M or 1.5G".to_owned();
    let (number, letter) = match text.find(|letter: char| letter.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "K"),
    };
    let unit = match letter.to_ascii_uppercase().trim_end_matches("IB") {
        "B" => 1.0,
        "K" => 1024.0,
        "M" => 1024.0 * 1024.0,
        "G" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    if !number.is_finite() || number < 0.0 {
        return Err(expected());
    }
    let bytes = (number * unit) as u64;
    Ok(Rate((bytes > 0).then_some(bytes)))
}

pub(super) fn delete_limit(text: &str) -> Result<DeleteLimit, String> {
    let expected = |_| "expected a number of entries, or a share such as 5%".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse().map_err(expected)? {
            percent @ 0..=100 => Ok(DeleteLimit::Percent(percent)),
            _ => Err("a share is at most 100%".into()),
        },
        None => text.parse().map(DeleteLimit::Count).map_err(expected),
    }
}

pub(super) fn owner(text: &str) -> Result<Owner, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() || group == Some("") {
        return Err("expected USER or USER:GROUP".into());
    }
    Ok(Owner::Named { user: user.to_owned(), group: group.map(str::to_owned) })
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE, as in ssh_config(5)".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_rsync_reads_them() {
        let cases = [("100", 102_400), ("500K", 512_000), ("1.5m", 1_572_864), ("20B", 20)];
        for (text, bytes) in cases {
            assert_eq!(rate(text), Ok(Rate(Some(bytes))), "{text}");
        }
        assert_eq!(rate("0"), Ok(Rate(None)));
        for text in ["", "fast", "-1", "1X", "nan"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_and_owners_are_read() {
        assert_eq!(delete_limit("100"), Ok(DeleteLimit::Count(100)));
        assert_eq!(delete_limit("5%"), Ok(DeleteLimit::Percent(5)));
        assert!(delete_limit("101%").is_err() && delete_limit("some").is_err());
        let named = |group: Option<&str>| Owner::Named {
            user: "mastodon".into(),
            group: group.map(str::to_owned),
        };
        assert_eq!(owner("mastodon"), Ok(named(None)));
        assert_eq!(owner("mastodon:www-data"), Ok(named(Some("www-data"))));
        assert!(owner("").is_err() && owner("a:").is_err() && owner(":b").is_err());
        assert_eq!(key_value("ProxyJump=a=b"), Ok(("ProxyJump".into(), "a=b".into())));
        assert!(key_value("ProxyJump").is_err() && key_value("=x").is_err());
    }
}
