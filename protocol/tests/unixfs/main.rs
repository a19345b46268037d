//! UnixFS from the outside: what is built has its published address, what was built is read back,
//! and what must be refused is refused.
#![allow(clippy::unwrap_used)]

mod refusals;
mod store;
mod vectors;
mod walk;
