//! A pass after a move: what the new server was given since is not on the old one. It would be
//! deleted, or written over by what is old.

use crate::cli::{Exit, Failure};
use crate::journal::{self, JournalError};
use crate::migration::record::Record;
use crate::migration::state::State;
use crate::migration::world::World;

/// Refuses once a move has stopped the old server, unless that was undone; and where that cannot be
/// known.
pub(super) fn refuse(world: &World) -> Result<(), Failure> {
    let records = records(world).map_err(|error| Failure::new(Exit::Refused, error))?;
    let state = State::fold(&records);
    let undone = |state: &State| state.ended() && !state.past_no_return;
    match state {
        Some(state) if state.downtime.is_some() && !undone(&state) => {
            let text = "a move has stopped the old server: what the new one was given since is \
                        not on it, so nothing is copied";
            let hint = "`transhume status` tells where the move stands; `sync --dry-run` and \
                        `sync --verify` still compare";
            Err(Failure::message(Exit::Refused, text, Some(hint.into())))
        }
        Some(_) | None => Ok(()),
    }
}

/// What was written down of a move; nothing where there was none.
pub(super) fn records(world: &World) -> Result<Vec<Record>, JournalError> {
    journal::read(&world.journal_path())
}
