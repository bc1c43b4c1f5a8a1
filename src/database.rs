//! The database engine.
