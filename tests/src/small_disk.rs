//! A small file system of a kind that people have, mounted for a test.
//!
//! ext4, FAT and exFAT lie in a file behind a loop device, a tmpfs in memory. exFAT is the kernel's or, where
//! that has none, the one of `exfat-fuse`; for FAT see `uml`. Where this machine cannot make or mount one,
//! a test says so and does without; in CI that is a failure.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::geteuid;

use crate::{text, uml};

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// Linux's usual one.
    Ext4,
    /// In memory.
    Tmpfs,
    /// Sticks of up to 32 GB.
    Fat,
    /// Larger sticks.
    ExFat,
}

impl DiskKind {
    /// How `mount` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Tmpfs => "tmpfs",
            Self::Fat => "vfat",
            Self::ExFat => "exfat",
        }
    }

    /// The program that makes one in a file.
    fn maker(self) -> Option<&'static str> {
        match self {
            Self::Ext4 => Some("mkfs.ext4"),
            Self::Tmpfs => None,
            Self::Fat => Some("mkfs.vfat"),
            Self::ExFat => Some("mkfs.exfat"),
        }
    }
}

/// A mounted one; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted.
    pub at: PathBuf,
    /// The loop device that was made for it, where `mount` did not.
    device: Option<String>,
}

impl SmallDisk {
    /// Makes one of so many bytes and mounts it below `folder`; none where that is not possible, which
    /// it says. `options` are those of `mount`.
    ///
    /// # Panics
    /// When `folder` cannot be written, and in CI when root has no such disk.
    #[must_use]
    pub fn mount(kind: DiskKind, bytes: u64, folder: &Path, options: &str) -> Option<Self> {
        Self::made(kind, &[], bytes, folder, options)
    }

    /// The same of ext4 with so few inodes: it takes fewer files than it has room for.
    ///
    /// # Panics
    /// As [`Self::mount`].
    #[must_use]
    pub fn with_inodes(inodes: u32, bytes: u64, folder: &Path) -> Option<Self> {
        let inodes = inodes.to_string();
        Self::made(DiskKind::Ext4, &["-N", &inodes], bytes, folder, "")
    }

    fn made(
        kind: DiskKind,
        making: &[&str],
        bytes: u64,
        folder: &Path,
        options: &str,
    ) -> Option<Self> {
        let mounted = Self::try_mount(kind, making, bytes, folder, options);
        if mounted.is_none() {
            let has_all = std::env::var_os("CI").is_some() || uml::is_inside();
            assert!(!(has_all && geteuid().is_root()), "no {}", kind.name());
            #[expect(clippy::print_stderr, reason = "a test that does without says why")]
            {
                eprintln!("skipped: no {} can be mounted here", kind.name());
            }
        }
        mounted
    }

    fn try_mount(
        kind: DiskKind,
        making: &[&str],
        bytes: u64,
        folder: &Path,
        options: &str,
    ) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let at = folder.join(kind.name());
        std::fs::create_dir_all(&at).expect("a folder");
        let mut given = vec![options.to_owned()];
        let image = folder.join(format!("{}.image", kind.name()));
        let source = match kind.maker() {
            None => {
                given.push(format!("size={bytes}"));
                "none"
            }
            Some(maker) => {
                let file = File::create(&image).expect("an image");
                file.set_len(bytes).expect("an image");
                if !runs(Command::new(maker).args(making).arg(&image)) {
                    return None;
                }
                given.push("loop".to_owned());
                text(&image)
            }
        };
        given.retain(|it| !it.is_empty());
        let mut mount = Command::new("mount");
        mount.args(["-t", kind.name(), "-o", &given.join(","), source]);
        if runs(mount.arg(&at)) {
            return Some(Self { at, device: None });
        }
        match kind {
            DiskKind::ExFat => Self::mount_exfat(&image, at, options),
            _ => None,
        }
    }

    /// Mounts an exFAT where the kernel knows none.
    fn mount_exfat(image: &Path, at: PathBuf, options: &str) -> Option<Self> {
        let mut attach = Command::new("losetup");
        let attached = attach.args(["--find", "--show"]).arg(image).output().ok()?;
        let device = String::from_utf8(attached.stdout).ok()?.trim().to_owned();
        let options = format!("allow_other,{options}");
        let mut mount = Command::new("mount.exfat-fuse");
        mount.args(["-o", options.trim_end_matches(','), &device]);
        if !runs(mount.arg(&at)) {
            runs(Command::new("losetup").args(["--detach", &device]));
            return None;
        }
        let device = Some(device);
        Some(Self { at, device })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(runs(Command::new("umount").arg("--lazy").arg(&self.at)));
        if let Some(device) = &self.device {
            assert!(runs(Command::new("losetup").args(["--detach", device])));
        }
    }
}

fn runs(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
