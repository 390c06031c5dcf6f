//! What a measurement stands on, and what goes with it: a folder, loop devices,
//! filesystems, processes, fio.

pub mod device;
pub mod filesystem;
pub mod fio;
pub mod interrupt;
pub mod machine;
pub mod process;
pub mod scratch;

pub use device::LoopDevice;
pub use filesystem::Filesystem;
pub use process::Process;
pub use scratch::Scratch;
