//! The ground floor of the daemon: what every layer above it uses and what knows none of them.
//!
//! [`units`] are numbers as people write them, [`meter`] estimates rates, [`pool`] keeps buffers for
//! their next use, [`budgets`] says how much memory each part may take. [`clock_gap`] notices when this program
//! did not run, and [`deadline`] does not count such a time. [`metrics`] makes the text of all numbers,
//! [`said`] says in plain words what the system said, [`suggest`] finds the word that was meant,
//! [`space`] asks how full a disk is and flushes it, [`memory`] which limit on memory is reached,
//! [`wall_clock`] says whether the machine's clock can be right.
//!
//! A module belongs here when two layers need it and it needs none of them. Nothing here reads or writes
//! users' files, the database, a socket or the API. Nothing here starts a task of its own accord.

pub mod budgets;
pub mod clock_gap;
pub mod deadline;
pub mod memory;
pub mod meter;
pub mod metrics;
pub mod pool;
pub mod said;
pub mod space;
pub mod suggest;
pub mod units;
pub mod wall_clock;
