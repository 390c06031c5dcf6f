//! What tests need of the machine they run on: programs, and rights.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// Whether `met`; says what is skipped for want of `need`, and fails the test
/// where `FAILBACK_REQUIRE=all` forbids skipping.
pub(in crate::disk) fn has(need: &str, met: bool) -> bool {
    if !met {
        let all = std::env::var("FAILBACK_REQUIRE").is_ok_and(|value| value == "all");
        assert!(!all, "FAILBACK_REQUIRE=all, and this machine has no {need}");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Past the test runner's capture: nothing is skipped unseen.
        let _ = writeln!(io::stderr(), "skipped {test}: needs {need}");
    }
    met
}

/// Whether `program` is on the path.
pub(in crate::disk) fn has_program(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    has(program, found)
}

/// Whether loop devices can be made.
pub(in crate::disk) fn has_loop_devices() -> bool {
    has("root and loop devices", std::fs::File::options().write(true).open("/dev/loop-control").is_ok())
}

/// Runs `program` in `folder`; what it printed, or a failed test.
pub(in crate::disk) fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {printed}{complaints}");
    printed
}
