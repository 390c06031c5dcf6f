//! A tracked loop device that is copied while it is written, as an agent does,
//! and the judgement: the copy equals it, and each chunk that differs from
//! before was marked.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use failback_datapath::sys::Arena;
use failback_datapath::track::{ChangeSource, ChunkSet, Device, Parity, Place, Tracker};
use failback_datapath::unit::ChunkSize;
use nix::libc::O_DIRECT;

use super::lost::Lost;
use crate::fixture::{LoopDevice, LoopOptions, Scratch, assert_same_bytes};

pub struct Followed {
    pub device: LoopDevice,
    pub image: PathBuf,
    pub place: Place,
    pub size_bytes: u64,
    pub chunk_size: ChunkSize,
}

impl Followed {
    /// A loop device of `size_bytes` zeroes, not tracked yet.
    pub fn new(scratch: &Scratch, name: &str, size_bytes: u64, chunk_bytes: u32) -> Self {
        let image = scratch.image(name, size_bytes);
        let options = LoopOptions { has_partitions: true, ..LoopOptions::default() };
        let device = LoopDevice::attach_with(&image, options);
        // A BPF filesystem of the test's own goes with its scratch directory.
        let place = Place::on(&scratch.folder("bpf"), name, scratch.path(&format!("{name}.lock")));
        let chunk_size = ChunkSize::new(chunk_bytes).expect("a chunk size");
        Self { device, image, place, size_bytes, chunk_size }
    }

    pub fn find(&self) -> Device {
        Device::find(self.device.path()).expect("loop devices can be tracked")
    }

    /// Tracked, with nothing marked.
    pub fn install(&self) -> Tracker {
        self.install_as(self.find())
    }

    /// The same, of what is said of the disk.
    pub fn install_as(&self, device: Device) -> Tracker {
        let tracker = Tracker::install(device, self.chunk_size, self.place.clone());
        let mut tracker = tracker.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let mut all = self.nothing();
        tracker.drain(Parity::Odd, u64::MAX, &mut all).expect("nothing is doubted yet");
        assert_eq!(all.len(), all.universe(), "at first the whole disk is marked");
        tracker.confirmed(Parity::Odd);
        tracker
    }

    pub fn nothing(&self) -> ChunkSet {
        ChunkSet::empty(self.chunk_size.count(self.size_bytes))
    }

    /// A digest of each chunk, as the backing file holds it.
    pub fn digests(&self) -> Vec<u64> {
        let mut file = File::open(&self.image).expect("the image is there");
        let mut buffer = vec![0; self.chunk_size.bytes() as usize];
        let mut digest = |index| {
            let length = self.chunk_size.extent(index, self.size_bytes).length();
            let chunk = &mut buffer[..usize::try_from(length).expect("a chunk fits")];
            file.read_exact(chunk).expect("the image is as long as the disk");
            let mut hasher = DefaultHasher::new();
            hasher.write(chunk);
            hasher.finish()
        };
        (0..self.chunk_size.count(self.size_bytes)).map(&mut digest).collect()
    }

    /// Runs `workload` while the disk is followed; judges when it has ended.
    pub fn judge(&self, tracker: &mut Tracker, workload: impl FnOnce(&Path)) -> Result<(), Lost> {
        let before = self.digests();
        let copy_path = self.image.with_extension("copy");
        std::fs::copy(&self.image, &copy_path).expect("room for a copy");
        let copy = OpenOptions::new().write(true).open(&copy_path).expect("it was made");
        let (mut seen, is_over) = (self.nothing(), AtomicBool::new(false));
        let followed = thread::scope(|scope| {
            let follower = scope.spawn(|| -> Result<(), Lost> {
                while !is_over.load(Ordering::SeqCst) {
                    self.round(tracker, &copy, &mut seen)?;
                }
                Ok(())
            });
            // Ends the follower also where the workload fails.
            let over = at_the_end(|| is_over.store(true, Ordering::SeqCst));
            workload(self.device.path());
            drop(over);
            follower.join().expect("nothing was doubted falsely")
        });
        followed?;
        File::open(self.device.path()).and_then(|file| file.sync_all()).expect("it can be flushed");
        self.round(tracker, &copy, &mut seen)?;
        let after = self.digests();
        let changed = (0_u64..).zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        let missed: Vec<u64> =
            changed.clone().map(|(chunk, _)| chunk).filter(|chunk| !seen.contains(*chunk)).collect();
        assert!(
            missed.is_empty(),
            "{} of {} changed chunks unmarked: {missed:?}",
            missed.len(),
            changed.count()
        );
        assert!(changed.count() > 0, "the workload changed something");
        assert_same_bytes(&self.image, &copy_path, self.size_bytes);
        self.is_trusted(tracker)?;
        println!("{:?}", tracker.statistics());
        Ok(())
    }

    /// Looks for doubts until the disk has long been still.
    pub fn is_trusted(&self, tracker: &mut Tracker) -> Result<(), Lost> {
        for _ in 0..4 {
            tracker.check().map_err(|doubt| Lost::of(&doubt, tracker))?;
            thread::sleep(Duration::from_millis(600));
        }
        Ok(())
    }

    fn round(&self, tracker: &mut Tracker, copy: &File, seen: &mut ChunkSet) -> Result<(), Lost> {
        let mut set = self.nothing();
        tracker.drain(Parity::Even, u64::MAX, &mut set).map_err(|doubt| Lost::of(&doubt, tracker))?;
        let source = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(self.device.path());
        let source = source.expect("the device can be read");
        let size = NonZeroUsize::new(self.chunk_size.bytes() as usize).expect("chunks are not empty");
        let mut buffers = Arena::buffers(1, size).expect("memory for a chunk");
        for chunk in set.iter() {
            let extent = self.chunk_size.extent(chunk, self.size_bytes);
            let bytes =
                &mut buffers[0].bytes_mut()[..usize::try_from(extent.length()).expect("a chunk fits")];
            source.read_exact_at(bytes, extent.offset()).expect("the device can be read");
            copy.write_all_at(bytes, extent.offset()).expect("the copy can be written");
        }
        tracker.confirmed(Parity::Even);
        seen.insert_all(&set);
        Ok(())
    }
}

/// Does something when it is dropped.
fn at_the_end(action: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(action)
}
