//! What Mastodon is.
