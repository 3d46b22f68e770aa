//! Configuration in three types, each made from the one before: [`file`] (as written, with spans) → [`model`] (checked,
//! names resolved, no option that means "default") → `snapshot` (handles and counters, for the data side).

pub mod model;
