//! What helps a copy, as far as the disk allows. Pure.

use super::Room;
use super::conf::{InForce, Setting};
use crate::database::inspect::DatabaseFacts;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// With more a copy is not faster: checkpoints are rare already.
const WAL_BYTES_MAX: u64 = 16 * GIB;
/// Long enough that it is the size of the log that decides, not the clock.
const TIMEOUT_SECS: u64 = 30 * 60;

/// The value to set, as it is to stand in the file; or why the setting is left as it is.
pub fn wanted(
    setting: Setting,
    now: &InForce,
    room: Option<Room>,
    source: &DatabaseFacts,
) -> Result<String, String> {
    let name = setting.name();
    if !now.yields_to_file {
        return Err(format!("{name} is {}, set where ALTER SYSTEM does not reach", now.text));
    }
    let (value, text) = match setting {
        Setting::MaxWalSize => {
            let room = room.ok_or_else(|| {
                format!("{name} stays {}: nobody can tell how much room its disk has", now.text)
            })?;
            let mib = wal_bytes(room, source) / MIB;
            (mib, size(mib))
        }
        Setting::CheckpointTimeout => (TIMEOUT_SECS, format!("{}min", TIMEOUT_SECS / 60)),
    };
    if value <= now.value {
        return Err(format!("{name} stays {}", now.text));
    }
    Ok(text)
}

/// Half of what is left when the copy is there: the setting is no hard limit.
fn wal_bytes(room: Room, source: &DatabaseFacts) -> u64 {
    let left = match room {
        Room::Apart { wal_bytes } => wal_bytes,
        Room::Shared { free_bytes } => {
            // As the disk's check has it: sorting for an index takes about as much as the index.
            let sorting = source.tables.iter().map(|table| table.index_bytes).max().unwrap_or(0);
            free_bytes.saturating_sub(source.size_bytes).saturating_sub(sorting)
        }
    };
    (left / 2).min(WAL_BYTES_MAX)
}

fn size(mib: u64) -> String {
    match mib.is_multiple_of(1024) {
        true => format!("{}GB", mib / 1024),
        false => format!("{mib}MB"),
    }
}
