//! The operations of the API, each defined in one place.
//!
//! A line of `operations!` is the method that the node implements ([`crate::Service`]), the route with
//! its part of the OpenAPI document, and the method of the client ([`crate::client::Client`]): three
//! macros of those names take what they need of it. To add an operation, write its line here, its
//! types into [`crate::types`], and the method into the node.
//!
//! There are four forms:
//!
//! - `plain`: nothing is sent, one JSON object comes back;
//! - `named`: the same, about the thing that the last part of the path names;
//! - `sent`: a JSON object is sent, one comes back;
//! - `streamed`: a JSON object is sent; progress comes back, then the result.
//!
//! What has none of these forms is written out in `service.rs`, `routes/` and `client/`: bytes in
//! frames, queries, parts in the middle of a path, requests that are checked further.

/// Calls `$give!` with all operations.
macro_rules! operations {
    ($give:ident) => {
        $give! {
            plain {
                /// Who this node is.
                get "/id" id -> Identity, "Its identity";

                /// How it is doing.
                ///
                /// Looks at shared files first, for two seconds at the most.
                get "/status" status -> Status, "Its state";

                /// The peers it is connected to.
                get "/peers" peers -> Peers, "The peers, nearest first";

                /// What it offers.
                get "/shares" shares -> Shares, "The shares, oldest first";

                /// The fetches of this home that are not over, and the last of those that are.
                get "/transfers" transfers -> Transfers, "The transfers, oldest first";

                /// The limits in force, and what is used of them.
                get "/limits" limits -> Limits, "The limits and their use";

                /// What it keeps for others.
                get "/replicas" replicas -> ReplicaList, "The copies, newest first";

                /// The numbers of what it keeps for others.
                get "/replicas/stats" replica_stats -> ReplicaStats, "The numbers";
            }
            named {
                /// One share, with what to pass on to others.
                get "/shares/{cid}" shared("cid", "The root, or a link to it") -> LinkedShare,
                    "The share; the oldest one if the same content is shared from several places";
            }
            sent {
                /// Changes limits at once; they hold over restarts.
                patch "/limits" change_limits(LimitsChange) -> Limits, "The limits as they are now";

                /// Keeps copies for others from now on, or none; over restarts.
                ///
                /// When it keeps none, all that it kept is dropped.
                patch "/replicas" switch_replicas(ReplicaSwitch) -> ReplicaStats, "The numbers then";

                /// Drops copies that are kept for others; their space is free then.
                post "/replicas/drop" drop_replicas(ReplicaDrop) -> ReplicasDropped,
                    "What was dropped";
            }
            streamed {
                /// Fetches, verifies and lands.
                ///
                /// Ended early, by its client or by the node, it keeps what was verified; the same
                /// request goes on from there.
                post "/fetches" fetch(FetchRequest, FetchUpdate) -> FetchResult,
                    "Its progress, then what came of it";

                /// Reads the tree behind a link, without the bytes of its files.
                post "/ls" list(ListRequest, ListProgress) -> Listing, "Its progress, then the tree";

                /// Looks for providers of a root; `not_found` when there is none.
                post "/find" find(FindRequest, FindProgress) -> Found,
                    "Its progress, then the providers";

                /// Reads and hashes what is shared.
                ///
                /// What is found to have changed is not served any more; what is found whole again
                /// is. Ended early, what was found until then counts.
                post "/verify" verify(VerifyRequest, VerifyProgress) -> Verified,
                    "Its progress, then what was found";

                /// Takes out what nothing needs, and gives its space back.
                ///
                /// Ended early, what was taken out until then stays out.
                post "/gc" gc(GcRequest, GcProgress) -> Collected,
                    "Its progress, then what was taken out";
            }
        }
    };
}

pub(crate) use operations;
