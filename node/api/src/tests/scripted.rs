//! The node that stands behind the API in its tests.

use super::*;

/// A node that does as the link, name or CID of a request tells it.
pub(super) struct Scripted {
    /// Says `started` and `cancelled` of operations that wait.
    pub(super) events: mpsc::UnboundedSender<&'static str>,
    /// Lets an operation that reports its progress end.
    pub(super) seen: Arc<Notify>,
    pub(super) bus: Events,
}

impl Scripted {
    async fn until_cancelled(&self, cancel: CancellationToken) -> ApiError {
        self.events.send("started").unwrap();
        cancel.cancelled().await;
        self.events.send("cancelled").unwrap();
        ApiError::new(ErrorCode::Interrupted, "interrupted")
    }
}

fn scripted_limits() -> Limits {
    let rate = RateLimit {
        limit: Rate::OFF,
        bytes_per_second: None,
        source: LimitSource::Default,
        rate: 0,
    };
    Limits {
        up: rate,
        down: rate,
        monthly: MonthlyLimit {
            limit: Size::OFF,
            bytes: None,
            source: LimitSource::Default,
            up: 0,
            down: 0,
            since: jiff::Timestamp::UNIX_EPOCH,
            resets: jiff::Timestamp::UNIX_EPOCH,
            spent: false,
        },
    }
}

impl Service for Scripted {
    async fn id(&self) -> Result<Identity, ApiError> {
        Ok(Identity {
            peer_id: PeerId::random(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
            home: "/home".into(),
            version: "1".into(),
            process: crate::types::NodeProcess::default(),
        })
    }

    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status {
            peer_id: PeerId::random(),
            version: "1".into(),
            network: "main".into(),
            uptime_ms: 1,
            addresses: Vec::new(),
            scope: Scope::Loopback,
            reachability: Reachability::default(),
            peers: Vec::new(),
            shares: Vec::new(),
            transfers: Vec::new(),
            replicas: Replicas::default(),
            uploaded_bytes: 0,
            downloaded_bytes: 0,
            rates: Rates::default(),
            limits: scripted_limits(),
            disk: Disk { free: 1, total: 2 },
            scrub: Scrub::default(),
            database: Database {
                state: DatabaseState::Sound,
                lost: Vec::new(),
                damage: Vec::new(),
            },
            warnings: Vec::new(),
            emulation: None,
        })
    }

    async fn limits(&self) -> Result<Limits, ApiError> {
        Ok(scripted_limits())
    }

    async fn change_limits(&self, change: LimitsChange) -> Result<Limits, ApiError> {
        let mut limits = scripted_limits();
        limits.up.limit = change.up.flatten().unwrap_or_default();
        Ok(limits)
    }

    async fn replicas(&self) -> Result<ReplicaList, ApiError> {
        Ok(ReplicaList::default())
    }

    async fn replica_stats(&self) -> Result<ReplicaStats, ApiError> {
        Ok(ReplicaStats::default())
    }

    async fn switch_replicas(&self, request: ReplicaSwitch) -> Result<ReplicaStats, ApiError> {
        Ok(ReplicaStats {
            on: request.on,
            ..ReplicaStats::default()
        })
    }

    async fn drop_replicas(&self, request: ReplicaDrop) -> Result<ReplicasDropped, ApiError> {
        let roots = u64::from(request.key.is_some());
        Ok(ReplicasDropped {
            roots,
            freed_bytes: 0,
        })
    }

    fn events(&self, after: Option<u64>) -> EventReader {
        self.bus.read(after)
    }

    async fn metrics(&self) -> Result<Numbers, ApiError> {
        let mut numbers = Numbers::default();
        numbers.counter("shoal_things", "Things.", 7);
        Ok(numbers)
    }

    fn stopping(&self) {
        self.bus.publish(Event::NodeStopping);
    }

    async fn peers(&self) -> Result<Peers, ApiError> {
        Ok(Peers { peers: Vec::new() })
    }

    async fn shares(&self) -> Result<Shares, ApiError> {
        Ok(Shares { shares: Vec::new() })
    }

    async fn shared(&self, target: String) -> Result<LinkedShare, ApiError> {
        let message = format!("{target} is not shared");
        Err(ApiError::new(ErrorCode::NotShared, message))
    }

    async fn connect(
        &self,
        request: ConnectRequest,
        _: CancellationToken,
    ) -> Result<Connected, ApiError> {
        Ok(Connected {
            peer_id: PeerId::random(),
            address: request.address,
        })
    }

    async fn share(
        &self,
        request: ShareRequest,
        _: Progress<ShareProgress>,
        _: CancellationToken,
    ) -> Result<ShareResult, ApiError> {
        Ok(ShareResult {
            cid: String::new(),
            link: String::new(),
            link_long: String::new(),
            name: request.name.unwrap_or_default(),
            size: 0,
            files: request.paths.len() as u64,
            chunks: 0,
            elapsed_ms: 0,
            keep: request.command.is_none(),
            expires: None,
            skipped: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn unshare(&self, request: UnshareRequest) -> Result<Unshared, ApiError> {
        let known = match request {
            UnshareRequest::Cid(cid) => cid == "known",
            UnshareRequest::Path(path) => path.as_path() == "/a b/ü",
        };
        if known {
            Ok(Unshared {
                removed: Vec::new(),
                forgotten: Vec::new(),
            })
        } else {
            Err(ApiError::new(ErrorCode::NotShared, "not shared").hint("see `shoal ls`"))
        }
    }

    async fn change_share(&self, target: String, change: ShareChange) -> Result<Shares, ApiError> {
        let not_named = format!("{target} is not called {}", change.name);
        Err(ApiError::new(ErrorCode::NotShared, not_named))
    }

    async fn fetch(
        &self,
        request: FetchRequest,
        progress: Progress<FetchUpdate>,
        cancel: CancellationToken,
    ) -> Result<FetchResult, ApiError> {
        match request.link.as_str() {
            "wait" => return Err(self.until_cancelled(cancel).await),
            "fail" => return Err(ApiError::new(ErrorCode::Integrity, "wrong bytes")),
            "panic" => panic!("as the test asked"),
            _ => {}
        }
        let slow = request.link == "slow";
        progress.report(FetchUpdate {
            transfer: 7,
            progress: FetchProgress {
                phase: FetchPhase::Fetching,
                bytes: 1,
                verified_bytes: 1,
                bytes_total: Some(2),
                files: 0,
                files_total: None,
                rate: 0,
                eta_ms: None,
                sources: 1,
                asked: 1,
                waiting_ms: None,
            },
        });
        if slow {
            self.seen.notified().await;
        }
        Ok(FetchResult {
            cid: String::new(),
            path: PathBuf::from("/x"),
            size: 2,
            files: 1,
            elapsed_ms: 200,
            downloaded_bytes: 2,
            resumed_bytes: 0,
            local_bytes: 0,
            skipped: 0,
            unkept: Unkept::default(),
            renamed: Vec::new(),
            from: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn cat(
        &self,
        request: CatRequest,
        out: mpsc::Sender<Vec<u8>>,
        _: Progress<FetchProgress>,
        _: CancellationToken,
    ) -> Result<CatResult, ApiError> {
        for bytes in ["one", "three"] {
            let _ = out.send(bytes.into()).await;
        }
        Err(ApiError::new(ErrorCode::Integrity, request.link))
    }

    async fn transfers(&self) -> Result<Transfers, ApiError> {
        let transfers = vec![transfer(TransferState::Running)];
        Ok(Transfers { transfers })
    }

    async fn change_transfer(
        &self,
        _: String,
        change: TransferChange,
    ) -> Result<Transfer, ApiError> {
        Ok(Transfer {
            limit: change.limit,
            ..transfer(TransferState::Running)
        })
    }

    async fn pause(&self, target: String) -> Result<Transfer, ApiError> {
        match target.as_str() {
            "7" => Ok(transfer(TransferState::Paused {
                reason: "asked".into(),
            })),
            _ => Err(ApiError::new(ErrorCode::NoTransfer, "no transfer")),
        }
    }

    async fn resume(&self, _: String) -> Result<Transfer, ApiError> {
        Ok(transfer(TransferState::Queued))
    }

    async fn cancel(&self, _: String) -> Result<Transfer, ApiError> {
        Ok(transfer(TransferState::Running))
    }

    async fn list(
        &self,
        _: ListRequest,
        _: Progress<ListProgress>,
        _: CancellationToken,
    ) -> Result<Listing, ApiError> {
        Ok(Listing {
            cid: String::new(),
            name: None,
            size: Some(0),
            files: 0,
            entries: Vec::new(),
        })
    }

    async fn verify(
        &self,
        request: VerifyRequest,
        _: Progress<VerifyProgress>,
        _: CancellationToken,
    ) -> Result<Verified, ApiError> {
        Ok(Verified {
            intact: request.link.is_none(),
            ..Verified::default()
        })
    }

    async fn gc(
        &self,
        request: GcRequest,
        _: Progress<GcProgress>,
        _: CancellationToken,
    ) -> Result<Collected, ApiError> {
        Ok(Collected {
            dry_run: request.dry_run,
            ..Collected::default()
        })
    }

    async fn find(
        &self,
        _: FindRequest,
        _: Progress<FindProgress>,
        _: CancellationToken,
    ) -> Result<Found, ApiError> {
        Err(ApiError::new(ErrorCode::NotFound, "nobody has it"))
    }
}

fn transfer(state: TransferState) -> Transfer {
    Transfer {
        id: 7,
        cid: "bafy".into(),
        name: "x".into(),
        path: "/x".into(),
        created: jiff::Timestamp::UNIX_EPOCH,
        state,
        progress: FetchProgress {
            phase: FetchPhase::Fetching,
            bytes: 1,
            verified_bytes: 1,
            bytes_total: Some(2),
            files: 0,
            files_total: Some(1),
            rate: 0,
            eta_ms: None,
            sources: 1,
            asked: 1,
            waiting_ms: None,
        },
        limit: Rate::OFF,
        waits_for: None,
        on_done: None,
    }
}
