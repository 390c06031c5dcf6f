//! An ordinary user, on files: what works, where the state goes, and what is
//! refused for lack of permission.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::fixture::Need::{LoopDevices, Root};
use crate::fixture::{Failback, LONG, LoopDevice, Model, Random, Scratch, assert_same_bytes, binary, need};

use super::{MIB, hash, sync_arguments};

const NOBODY: u32 = 65_534;

/// A home for somebody who may nothing else.
struct Home {
    scratch: Scratch,
    folder: PathBuf,
    program: PathBuf,
}

impl Home {
    fn new() -> Self {
        let scratch = Scratch::new();
        let folder = scratch.folder("home");
        let program = scratch.path("failback");
        fs::copy(binary(), &program).expect("the scratch directory has room");
        for path in [scratch.root(), &folder, &program] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o711)).expect("it is ours");
        }
        // Programs must be readable to be started under some loaders.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("root can give away");
        Self { scratch, folder, program }
    }

    /// A file of random bytes that belongs to the user.
    fn own(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.folder.join(name);
        Model::random(bytes, &mut Random::new()).save(&path);
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root can give away");
        path
    }

    fn failback<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Failback {
        Failback::as_nobody(&self.scratch, &self.program, arguments.into_iter().map(Into::into))
            .environment("XDG_STATE_HOME", self.folder.join("state"))
    }

    fn sync(&self, options: &[&str], source: &Path, target: &Path) -> Failback {
        self.failback(sync_arguments(options, source, target))
    }
}

#[test]
fn files_are_copied_and_the_state_is_kept_at_home() {
    let Some(()) = need(&[Root]) else { return };
    let home = Home::new();
    let (source, target) = (home.own("source", 20 * MIB + 33), home.folder.join("target"));
    let outcome = home.sync(&["--create", "--verify"], &source, &target).run().expect_success();
    assert!(outcome.stdout.contains("verified"), "{outcome}");
    assert_same_bytes(&source, &target, (20 << 20) + 33);
    assert!(home.folder.join("state/failback/targets").is_dir(), "the state is not where it should be");
    // Stopped in the middle, and told so from there.
    let image = home.folder.join("image.vmdk");
    let other = home.own("other", 8 * MIB);
    let options = ["--create", "--json", "--limit-rate", "4M"];
    let running = home.sync(&options, &other, &image).start();
    running.wait_for(LONG, |line| line.contains("progress").then_some(()));
    running.kill();
    let info =
        |path: &Path| home.failback(["image".into(), "info".into(), path.as_os_str().to_owned()]).run();
    let told = info(&image).expect_success();
    assert!(told.stdout.contains("UNFINISHED"), "{told}");
    home.sync(&["--create"], &other, &image).run().expect_success();
    assert!(!info(&image).expect_success().stdout.contains("UNFINISHED"));
    assert_same_bytes(&other, &home.folder.join("image-flat.vmdk"), 8 << 20);
}

#[test]
fn without_the_variable_the_state_is_below_the_home() {
    let Some(()) = need(&[Root]) else { return };
    let home = Home::new();
    let (source, target) = (home.own("source", MIB), home.own("target", MIB));
    let outcome = Failback::as_nobody(&home.scratch, &home.program, sync_arguments(&[], &source, &target))
        .environment("HOME", &home.folder)
        .run();
    outcome.expect_success();
    assert!(home.folder.join(".local/state/failback/targets").is_dir());
    assert_same_bytes(&source, &target, 1 << 20);
}

#[test]
fn what_the_user_may_not_is_refused() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let home = Home::new();
    let own = home.own("own", MIB);
    let locked = home.own("locked", MIB);
    chown(&locked, Some(0), Some(0)).expect("root can take back");
    let refused = |source: &Path, target: &Path, kept: &Path| {
        let before = hash(kept);
        let outcome = home.sync(&[], source, target).run().expect_code(3);
        for words in ["permission denied", "run failback as root", "not changed"] {
            assert!(outcome.stderr.contains(words), "no {words}: {outcome}");
        }
        assert_eq!(hash(kept), before);
    };
    let mode = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).expect("it is ours");
    mode(0o444);
    refused(&own, &locked, &locked);
    mode(0o600);
    refused(&own, &locked, &locked);
    refused(&locked, &own, &own);
    mode(0o200);
    refused(&own, &locked, &locked);
    let device = LoopDevice::attach(&home.scratch.image("disk", 1 << 20), 512);
    refused(&own, device.path(), device.path());
    refused(device.path(), &own, &own);
    // And loop devices are for root alone.
    let arguments = ["image".into(), "attach".into(), own.as_os_str().to_owned()];
    let outcome = home.failback(arguments).run().expect_code(3);
    assert!(outcome.stderr.contains("root"), "{outcome}");
}
