//! Verifying what is shared, and taking out what nothing needs, as people ask for it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use shoal_api::{ApiError, ErrorCode, Progress, types as api};
use shoal_ground::meter::Meter;
use shoal_protocol::link::Link;
use shoal_store::{
    FileVerdict, Garbage, GarbagePhase, Library, ShareRecord, ShareTotals, StoreError, Verdict,
    VerifyEvent,
};
use tokio_util::sync::CancellationToken;

use super::{
    NodeHandle, answers,
    errors::IntoApi,
    scrub::Scrub,
    service::{internal, interrupted},
};

/// Between two reports of a verification's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Files in one answer: at some 200 bytes each, 20 MB. Those that are not intact come first.
const FILES_LISTED_MAX: usize = 100_000;

impl NodeHandle {
    /// Reads and hashes every byte of some shares, or of all.
    pub(super) async fn verify_shares(
        &self,
        request: api::VerifyRequest,
        progress: Progress<api::VerifyProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Verified, ApiError> {
        let (library, scrub) = (self.inner.library.clone(), self.inner.scrub.clone());
        let shares = match &request.link {
            None => library.shares(),
            Some(link) => shares_of(&library, &link.parse()?)?,
        };
        let mut verification = Verification::new(shares, request.list_intact, progress);
        let stop = cancel.clone();
        let work = move || {
            let complete = verification.run(&library, &scrub, &stop)?;
            Ok::<_, StoreError>((verification, complete))
        };
        let verifying = tokio::task::spawn_blocking(work);
        match self
            .unless_stuck(&cancel, verifying)
            .await?
            .map_err(IntoApi::into_api)?
        {
            (verification, true) => Ok(verification.result()),
            (_, false) => {
                Err(interrupted()
                    .hint("what was read to its end counts; run it again for the rest"))
            }
        }
    }

    /// Takes out what nothing needs.
    pub(super) async fn collect_garbage(
        &self,
        request: api::GcRequest,
        progress: Progress<api::GcProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Collected, ApiError> {
        let started = Instant::now();
        let store = self.inner.library.store().clone();
        let work = move || {
            let mut report = |phase, rows| {
                progress.report(api::GcProgress {
                    phase: gc_phase(phase),
                    rows,
                });
            };
            store.collect_garbage(request.dry_run, &mut report, &cancel)
        };
        let collected = tokio::task::spawn_blocking(work).await;
        let garbage = collected
            .map_err(|panic| internal(&panic))?
            .map_err(IntoApi::into_api)?
            .ok_or_else(|| interrupted().hint("what was taken out stays out; run it again"))?;
        Ok(answer(request.dry_run, &garbage, started.elapsed()))
    }
}

fn shares_of(library: &Library, link: &Link) -> Result<Vec<Arc<ShareRecord>>, ApiError> {
    let mut shares = library.shares_of(&link.root);
    shares.retain(|share| share.is_listed());
    if shares.is_empty() {
        let message = format!("{} is not shared here", link.root);
        return Err(
            ApiError::new(ErrorCode::NotShared, message).hint("`shoal ls` lists what is shared")
        );
    }
    Ok(shares)
}

/// A verification in progress.
struct Verification {
    shares: Vec<Arc<ShareRecord>>,
    list_intact: bool,
    on_progress: Progress<api::VerifyProgress>,
    started: Instant,
    reported: Instant,
    meter: Meter,
    progress: api::VerifyProgress,
    verified: Vec<api::VerifiedShare>,
    files: FileList,
    hashed_bytes: u64,
}

impl Verification {
    fn new(
        shares: Vec<Arc<ShareRecord>>,
        list_intact: bool,
        on_progress: Progress<api::VerifyProgress>,
    ) -> Self {
        let totals = ShareTotals::of(&shares);
        let progress = api::VerifyProgress {
            files_total: totals.files,
            bytes_total: totals.bytes,
            ..api::VerifyProgress::default()
        };
        Self {
            shares,
            list_intact,
            on_progress,
            started: Instant::now(),
            reported: Instant::now(),
            meter: Meter::default(),
            progress,
            verified: Vec::new(),
            files: FileList::new(FILES_LISTED_MAX),
            hashed_bytes: 0,
        }
    }

    /// Verifies one share after the other; false when cancelled. Blocking.
    fn run(
        &mut self,
        library: &Library,
        scrub: &Scrub,
        cancel: &CancellationToken,
    ) -> Result<bool, StoreError> {
        for share in std::mem::take(&mut self.shares) {
            self.progress.name.clone_from(&share.name);
            self.report();
            let summary =
                library.verify(share.id, &mut |event| self.note(&share, event), cancel)?;
            if cancel.is_cancelled() {
                return Ok(false);
            }
            self.hashed_bytes += summary.hashed_bytes;
            if summary.unreadable == 0 {
                scrub.forget_unreadable(&share.root)?;
            }
            self.verified.push(api::VerifiedShare {
                cid: share.root.to_string(),
                name: share.name.clone(),
                path: share.source.clone(),
                files: summary.files,
                changed: summary.changed,
                unreadable: summary.unreadable,
                damaged_blocks: summary.damaged_nodes,
            });
        }
        Ok(true)
    }

    fn note(&mut self, share: &ShareRecord, event: VerifyEvent) {
        match event {
            VerifyEvent::Hashed(bytes) => self.progress.bytes += bytes,
            VerifyEvent::File(file) => {
                self.progress.files += 1;
                self.list(share, file);
            }
            VerifyEvent::DamagedNode(_) => self.progress.bad += 1,
        }
        if self.reported.elapsed() >= PROGRESS_INTERVAL {
            self.report();
        }
    }

    fn list(&mut self, share: &ShareRecord, file: FileVerdict) {
        let verdict = match file.verdict {
            Verdict::Intact => api::FileVerdict::Intact,
            Verdict::Changed(kind) => api::FileVerdict::Changed {
                reason: kind.to_string(),
            },
            Verdict::Unreadable(reason) => api::FileVerdict::Unreadable { reason },
        };
        let is_bad = verdict != api::FileVerdict::Intact;
        self.progress.bad += u64::from(is_bad);
        if is_bad || self.list_intact {
            let path = below(&share.base, &file.path);
            self.files.add(api::VerifiedFile {
                cid: share.root.to_string(),
                path,
                size: file.size,
                verdict,
            });
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        self.progress.rate = self.meter.rate(self.progress.bytes, Instant::now());
        self.on_progress.report(self.progress.clone());
    }

    fn result(self) -> api::Verified {
        let (files, files_unlisted) = self.files.finish();
        api::Verified {
            intact: self.progress.bad == 0,
            shares: self.verified,
            files,
            files_unlisted,
            hashed_bytes: self.hashed_bytes,
            elapsed_ms: answers::millis(self.started.elapsed()),
        }
    }
}

/// Files for an answer: as many as it may have, the bad ones first.
struct FileList {
    bad: Vec<api::VerifiedFile>,
    intact: Vec<api::VerifiedFile>,
    listed_max: usize,
    unlisted: u64,
}

impl FileList {
    fn new(listed_max: usize) -> Self {
        Self {
            bad: Vec::new(),
            intact: Vec::new(),
            listed_max,
            unlisted: 0,
        }
    }

    fn add(&mut self, file: api::VerifiedFile) {
        let is_bad = file.verdict != api::FileVerdict::Intact;
        if self.bad.len() + self.intact.len() >= self.listed_max {
            self.unlisted += 1;
            // A bad file takes the place of an intact one.
            if !is_bad || self.intact.pop().is_none() {
                return;
            }
        }
        match is_bad {
            true => self.bad.push(file),
            false => self.intact.push(file),
        }
    }

    /// The files, and how many more there were.
    fn finish(mut self) -> (Vec<api::VerifiedFile>, u64) {
        self.bad.append(&mut self.intact);
        (self.bad, self.unlisted)
    }
}

/// Where the file `path` of a share with this base is; the base itself for an empty path.
fn below(base: &Path, path: &str) -> std::path::PathBuf {
    match path {
        "" => base.to_owned(),
        path => base.join(path),
    }
}

fn gc_phase(phase: GarbagePhase) -> api::GcPhase {
    match phase {
        GarbagePhase::Rows => api::GcPhase::Rows,
        GarbagePhase::Blocks => api::GcPhase::Blocks,
        GarbagePhase::Copies => api::GcPhase::Copies,
        GarbagePhase::Compacting => api::GcPhase::Compacting,
    }
}

fn answer(dry_run: bool, garbage: &Garbage, elapsed: Duration) -> api::Collected {
    let given_back = garbage
        .database_bytes_before
        .saturating_sub(garbage.database_bytes_after);
    let copies = if dry_run { 0 } else { garbage.copy_bytes };
    api::Collected {
        dry_run,
        shares: garbage.shares,
        rows: garbage.rows,
        blocks: garbage.blocks,
        block_bytes: garbage.block_bytes,
        copies: garbage.copies,
        copy_bytes: garbage.copy_bytes,
        database_bytes_before: garbage.database_bytes_before,
        database_bytes_after: garbage.database_bytes_after,
        freed_bytes: given_back.saturating_add(copies),
        elapsed_ms: answers::millis(elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_come_first_and_are_the_last_to_be_left_out() {
        let check = |found: &str, expected: &str, unlisted: u64| {
            let mut list = FileList::new(3);
            for (index, letter) in found.chars().enumerate() {
                list.add(api::VerifiedFile {
                    cid: String::new(),
                    path: letter.to_string().into(),
                    size: index as u64,
                    verdict: match letter.is_uppercase() {
                        true => api::FileVerdict::Changed {
                            reason: "differs".to_owned(),
                        },
                        false => api::FileVerdict::Intact,
                    },
                });
            }
            let (files, more) = list.finish();
            let listed: String = files
                .iter()
                .map(|file| file.path.to_string_lossy())
                .collect();
            assert_eq!((listed.as_str(), more), (expected, unlisted), "{found}");
        };
        check("", "", 0);
        check("abc", "abc", 0);
        check("aBc", "Bac", 0);
        check("abcde", "abc", 2);
        check("abcD", "Dab", 1);
        check("abcDEFGh", "DEF", 5);
    }
}
