//! The move: inventory -> preflight -> plan -> run -> verify -> report.
