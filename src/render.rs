//! Events drawn for people and programs.
