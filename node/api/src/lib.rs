//! The node's local API: HTTP over a Unix socket in its home, for the command line and for
//! programs.
//!
//! [`types`] and [`ApiError`] are the vocabulary: the daemon, its [`client`], the [`events`] and the
//! command line share it. This package knows no part of a node: it asks a [`Service`].
//!
//!
//! Under `/api/v1` are JSON requests and answers ([`types`]); what takes time answers with one JSON
//! object per line, the last of which is the result or the error; bytes come in frames (`frames.rs`). Only the owner of the home can
//! connect (mode 0600). The API knows a node as a [`Service`] and ends with the token that was
//! given to [`serve`].
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /api/v1/id` | | [`types::Identity`] |
//! | `GET /api/v1/status` | | [`types::Status`] |
//! | `GET /api/v1/peers` | | [`types::Peers`] |
//! | `POST /api/v1/peers` | [`types::ConnectRequest`] | events, [`types::Connected`] |
//! | `GET /api/v1/shares` | | [`types::Shares`] |
//! | `POST /api/v1/shares` | [`types::ShareRequest`] | events, [`types::ShareResult`] |
//! | `GET /api/v1/shares/{cid}` | | [`types::LinkedShare`] |
//! | `PATCH /api/v1/shares/{cid}` | [`types::ShareChange`] | [`types::Shares`] |
//! | `DELETE /api/v1/shares/{cid}`, `…/shares?path=` | | events, [`types::Unshared`] |
//! | `POST /api/v1/fetches` | [`types::FetchRequest`] | events, [`types::FetchResult`] |
//! | `POST /api/v1/cat` | [`types::CatRequest`] | bytes and events in frames, [`types::CatResult`] |
//! | `GET /api/v1/transfers` | | [`types::Transfers`] |
//! | `POST /api/v1/transfers/{id}/pause`, `…/resume`, `…/cancel` | | events, [`types::Transfer`] |
//! | `POST /api/v1/ls` | [`types::ListRequest`] | events, [`types::Listing`] |
//! | `POST /api/v1/find` | [`types::FindRequest`] | events, [`types::Found`] |
//! | `GET /api/v1/limits` | | [`types::Limits`] |
//! | `PATCH /api/v1/limits` | [`types::LimitsChange`] | [`types::Limits`] |
//! | `POST /api/v1/verify` | [`types::VerifyRequest`] | events, [`types::Verified`] |
//! | `POST /api/v1/gc` | [`types::GcRequest`] | events, [`types::Collected`] |
//! | `POST /api/v1/stop` | | [`types::Stopping`] |
//! | `GET /api/v1/events` | | server-sent [`types::Occurrence`]s |
//! | `GET /api/v1/openapi.json` | | this table as a document |
//! | `GET /metrics` | | OpenMetrics text |
//! | `GET /healthz`, `GET /readyz` | | 200 when alive, when taking requests |

mod body;
pub mod client;
mod command;
mod error;
pub mod events;
mod frames;
mod home;
mod listener;
mod operations;
mod origin;
mod routes;
mod server;
mod service;
mod socket;
mod stream;
mod table;
#[cfg(test)]
mod tests;
pub mod types;

pub use command::{CommandId, RunningCommand};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use frames::{FRAME_HEAD_BYTES, FRAMES_TYPE, FrameKind, read_head};
pub use home::{HomeError, HomeLock, socket_path};
pub use listener::{ApiListener, bind};
pub use server::serve;
pub use service::{Progress, Service};
pub use stream::HEARTBEAT_INTERVAL;
