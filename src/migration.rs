//! The move itself: inventory → preflight → plan → run (journal, undo) → report.
//!
//! A [`plan::Plan`] is a value: stages of [`step::Step`]s in order. [`run`] executes it, writing
//! every transition to the journal before and after the deed; [`state::State`] is the fold of
//! that journal and the only thing that recovery looks at. What humans see are events, emitted
//! beside it and never read back.

pub mod facts;
pub mod plan;
pub mod recipe;
pub mod record;
pub mod run;
pub mod state;
pub mod step;
pub mod steps;
pub mod world;
