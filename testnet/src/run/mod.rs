//! Running a scenario: what it is going to do is drawn up front ([`Script`]), carried out on a
//! network ([`Driver`]), written down ([`Record`]) and judged ([`verdicts`]).

mod driver;
pub(crate) mod engine;
pub(crate) mod evil;
pub(crate) mod files;
mod in_process;
mod process;
mod record;
mod requests;
mod script;
pub(crate) mod verdict;

pub use driver::{Counters, Driver, Fetched, LookedUp};
pub use engine::{Live, RunNews};
pub use in_process::InProcess;
pub use process::Processes;
pub use record::{Change, Fetch, Happening, Lookup, Outcome, Record, Sample};
pub use script::{Action, Item, Script, ScriptStep};
pub use verdict::{Verdict, check, verdicts};

pub(crate) use driver::Network;
pub(crate) use verdict::quantile;
