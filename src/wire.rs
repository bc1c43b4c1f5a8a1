//! What the two halves of transhume say to each other. Pure: no I/O.
