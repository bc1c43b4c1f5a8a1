//! The list of `--files-from`.

use std::fs::File;
use std::io::{BufReader, Read};

use super::{Arguments, Exit, Failure};
use crate::error::one_line;
use crate::media::filter::Filter;
use crate::media::{Listed, MediaError};

/// The list that was asked for, without what `exclude` excludes.
pub(super) fn read(arguments: &Arguments, exclude: &[Vec<u8>]) -> Result<Option<Listed>, Failure> {
    let Some(file) = &arguments.files_from else { return Ok(None) };
    let usage = |error: &(dyn std::error::Error + 'static)| {
        let text = format!("cannot use the list in {}: {}", file.display(), one_line(error));
        Failure::message(Exit::Usage, text, None)
    };
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(file).map_err(|error| usage(&error))?),
    };
    let filter = Filter::new(exclude)
        .map_err(|error| Failure::new(Exit::Usage, MediaError::Pattern(error)))?;
    let (nul, recursive) = (arguments.from0, arguments.recursive);
    let listed = Listed::read(BufReader::new(input), nul, recursive, &filter);
    listed.map(Some).map_err(|error| usage(&error))
}
