//! What a replica refuses, and what it does when its storage fails or is full.

use std::cell::RefCell;
use std::rc::Rc;

use failback_datapath::delta::{Opened, Place};
use failback_datapath::error::{Remediable, Remedy};
use failback_datapath::journal::{Pair, PairState, PointKind, RetentionPolicy};
use failback_datapath::landing::replica::{Cut, Error, OnForeignWrites, Replica};
use failback_datapath::unit::{Chain, DeltaNumber, Epoch, Extent, Generation};

use super::enumerate::run;
use super::play::{Simulated, read_point};
use super::script::{DISK_BYTES, delta, pair};
use super::storage::{Directory, Disk};
use super::tape::DISK;
use super::world::{Faults, Shared, World};
use crate::fixture::Random;

/// A replica with its storage and the obvious model of its disk.
struct Bench {
    world: Shared,
    replica: Simulated,
    content: Vec<u8>,
    random: Random,
}

impl Bench {
    /// A pair in its first synchronization.
    async fn new() -> Self {
        let world: Shared = Rc::new(RefCell::new(World::new(DISK_BYTES, 1)));
        let (disk, directory) = (Disk(Rc::clone(&world)), Directory(Rc::clone(&world)));
        let replica = Replica::create(disk, directory, pair()).await.unwrap();
        Self { world, replica, content: vec![0; DISK_BYTES], random: Random::new() }
    }

    /// A pair with its first point.
    async fn protected() -> Self {
        let mut bench = Self::new().await;
        let deltas = [bench.delta(&[0, 1, 2, 40])];
        bench.replica.land(&deltas).await.unwrap();
        bench.cut().await.unwrap();
        bench
    }

    /// Opened anew, as after its process was killed.
    async fn reopened(self) -> Self {
        let Self { world, replica, content, random } = self;
        drop(replica);
        let (disk, directory) = (Disk(Rc::clone(&world)), Directory(Rc::clone(&world)));
        let (replica, _) = Replica::open(disk, directory).await.unwrap();
        Self { world, replica, content, random }
    }

    /// Somebody else writes a byte.
    fn strangers_write(&self, position: usize) {
        let (mut world, bytes) = (self.world.borrow_mut(), Rc::from([0x5a]));
        let write = world.submit(DISK, position, &bytes);
        world.complete(DISK, position, &bytes, write);
    }

    /// The next delta, with new bytes for `chunks`.
    fn delta(&mut self, chunks: &[u64]) -> Opened {
        let position = self.replica.position();
        let number = position.landed.next();
        for chunk in chunks {
            let place = super::script::place_of(*chunk);
            self.random.fill(&mut self.content[place]);
        }
        let place = Place { generation: position.generation, epoch: position.epoch, number };
        delta(place, &self.content, chunks.iter().copied())
    }

    fn next_cut(&self) -> Cut {
        let position = self.replica.position();
        let (generation, epoch, manifest) = (position.generation, position.epoch, position.manifest);
        Cut {
            generation,
            epoch,
            deltas: position.landed,
            manifest,
            chain: Chain::next(self.replica.chain(), generation, epoch, manifest),
            kind: PointKind::App,
            name: "named".to_owned(),
            machine_cut: None,
            chunks: 1,
            cut_unix_ms: 1,
            freeze_ms: 2,
        }
    }

    async fn cut(&mut self) -> Result<Epoch, Error> {
        let cut = self.next_cut();
        self.replica.cut(&cut).await.map(|point| point.epoch)
    }

    /// Everything that can be seen of the storage.
    fn image(&self) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
        let world = self.world.borrow();
        let files = world.names.iter().map(|(name, inode)| (name.clone(), world.contents[*inode].to_vec()));
        (world.disk().to_vec(), files.collect())
    }

    /// Lands what must be refused, with that remedy, and changes nothing.
    async fn refuses(&mut self, deltas: &[Opened], remedy: Remedy) -> String {
        let (before, position) = (self.image(), self.replica.position());
        let error = self.replica.land(deltas).await.unwrap_err();
        assert_eq!(error.remedy(), remedy, "{error}");
        assert!(
            self.image() == before && self.replica.position() == position,
            "{error}: it changed something"
        );
        assert!(self.replica.stopped().is_none(), "{error}");
        error.to_string()
    }
}

fn at(lost: &Opened, change: impl FnOnce(&mut Place)) -> Opened {
    let mut place = lost.head().place();
    change(&mut place);
    super::script::anew(lost, place)
}

#[test]
fn deltas_for_another_state_are_refused_and_change_nothing() {
    run(async {
        let mut bench = Bench::protected().await;
        let good = bench.delta(&[3, 4]);
        let gap = at(&good, |place| place.number = DeltaNumber(2));
        assert!(bench.refuses(&[gap], Remedy::Reconnect).await.contains("delta 2"));
        let other = Generation { incarnation: 7, number: 2 };
        let stranger = at(&good, |place| place.generation = other);
        assert!(bench.refuses(&[stranger], Remedy::Resync).await.contains("generation"));
        let earlier = at(&good, |place| place.epoch = Epoch(1));
        assert!(bench.refuses(&[earlier], Remedy::Reconnect).await.contains("epoch 2 is open"));
        // All or nothing: the first of the two is good.
        let again = at(&good, |place| place.number = DeltaNumber(1));
        bench.refuses(&[good.clone(), again], Remedy::Reconnect).await;
        bench.replica.land(std::slice::from_ref(&good)).await.unwrap();
        bench.refuses(&[good], Remedy::Reconnect).await;
    });
}

#[test]
fn a_target_of_another_size_is_refused() {
    run(async {
        let world: Shared = Rc::new(RefCell::new(World::new(DISK_BYTES - 512, 1)));
        let made = Replica::create(Disk(Rc::clone(&world)), Directory(Rc::clone(&world)), pair()).await;
        let Err(error) = made else { panic!("it was made") };
        assert!(matches!(error, Error::Size { .. }) && error.remedy() == Remedy::Refused, "{error}");
        assert!(world.borrow().names.is_empty());
        let bench = Bench::protected().await;
        Rc::make_mut(&mut bench.world.borrow_mut().contents[0]).push(0);
        let opened = Replica::open(Disk(Rc::clone(&bench.world)), Directory(Rc::clone(&bench.world))).await;
        assert!(matches!(opened.map(drop), Err(Error::Size { .. })));
    });
}

#[test]
fn a_cut_that_is_not_what_landed_makes_no_point() {
    run(async {
        let mut bench = Bench::protected().await;
        let deltas = [bench.delta(&[5])];
        bench.replica.land(&deltas).await.unwrap();
        let good = bench.next_cut();
        let wrong = [
            Cut { deltas: DeltaNumber(2), ..good.clone() },
            Cut { manifest: Default::default(), ..good.clone() },
            Cut { chain: Chain::START, ..good.clone() },
            Cut { epoch: Epoch(3), ..good.clone() },
            Cut { kind: PointKind::Rewind { to: Epoch(1) }, ..good.clone() },
        ];
        for cut in &wrong {
            bench.replica.cut(cut).await.unwrap_err();
            assert_eq!(bench.replica.journal().points().count(), 1);
        }
        let point = bench.replica.cut(&good).await.unwrap();
        // The answer was lost: the same again.
        assert_eq!(bench.replica.cut(&good).await.unwrap(), point);
        let other = Cut { chain: Chain::START, ..good };
        assert!(bench.replica.cut(&other).await.is_err());
    });
}

#[test]
fn a_first_synchronization_that_was_given_up_is_no_disk() {
    run(async {
        let mut bench = Bench::new().await;
        let deltas = [bench.delta(&[1])];
        bench.replica.land(&deltas).await.unwrap();
        assert!(bench.replica.fence().await.is_err(), "there is no point to go home with");
        bench.replica.cancel_synchronization().await.unwrap();
        let mut bench = bench.reopened().await;
        assert_eq!(bench.replica.position().state, PairState::Corrupted);
        assert!(read_point(&bench.replica, Epoch(1)).await.unwrap_err().to_string().contains("no disk"));
        let next = bench.delta(&[2]);
        assert!(bench.refuses(&[next], Remedy::Refused).await.contains("anew"));
        bench.replica.begin_synchronization().await.unwrap();
        let deltas = [bench.delta(&[3])];
        bench.replica.land(&deltas).await.unwrap();
        assert_eq!(bench.cut().await.unwrap(), Epoch(1));
        assert_eq!(bench.replica.position().state, PairState::Protected);
    });
}

#[test]
fn a_full_journal_pushes_back_and_goes_on_when_there_is_space() {
    run(async {
        let mut bench = Bench::protected().await;
        let used = bench.world.borrow().used_bytes();
        bench.world.borrow_mut().capacity = used;
        let mut landed = 0;
        let full = loop {
            let before = bench.content.clone();
            let next = bench.delta(&[landed % 40, (landed + 7) % 40]);
            match bench.replica.land(std::slice::from_ref(&next)).await {
                Ok(()) => landed += 1,
                Err(error) => {
                    assert!(error.is_full() && error.remedy() == Remedy::Retry, "{error}");
                    bench.content = before;
                    break next;
                }
            }
            if landed % 10 == 9 {
                // Touched chunks are not journaled again: a new epoch makes them new.
                if let Err(error) = bench.cut().await {
                    assert!(error.is_full(), "{error}");
                }
            }
            assert!(landed < 1000, "the journal never filled up");
        };
        assert!(bench.replica.stopped().is_none());
        bench.world.borrow_mut().capacity = u64::MAX;
        bench.replica.land(std::slice::from_ref(&full)).await.unwrap();
        let epoch = bench.cut().await.unwrap();
        let disk = bench.world.borrow().disk().to_vec();
        assert!(read_point(&bench.replica, epoch).await.unwrap() == disk);
    });
}

/// After any failed write or flush nothing is acknowledged, and opening anew goes
/// on from what had been.
#[test]
fn after_a_fault_nothing_is_acknowledged_until_it_is_opened_anew() {
    let faults = [
        Faults { disk_reads: Some(0), ..Faults::default() },
        Faults { disk_writes: Some(0), ..Faults::default() },
        Faults { disk_flushes: Some(0), ..Faults::default() },
        Faults { journal_writes: Some(0), ..Faults::default() },
        Faults { journal_flushes: Some(0), ..Faults::default() },
    ];
    for fault in faults {
        run(async {
            let mut bench = Bench::protected().await;
            let deltas = [bench.delta(&[6, 7])];
            bench.replica.land(&deltas).await.unwrap();
            let durable = bench.replica.checkpoint().await.unwrap();
            let before = bench.content.clone();
            bench.world.borrow_mut().faults = fault;
            let next = [bench.delta(&[8, 9, 20])];
            let landed = bench.replica.land(&next).await;
            let flushed = bench.replica.checkpoint().await;
            assert!(landed.is_err() || flushed.is_err(), "{fault:?} went unseen");
            assert!(bench.replica.stopped().is_some(), "{fault:?}");
            assert!(matches!(bench.cut().await, Err(Error::Stopped { .. })), "{fault:?}");
            assert!(matches!(bench.replica.checkpoint().await, Err(Error::Stopped { .. })), "{fault:?}");
            bench.content = before;
            let mut bench = bench.reopened().await;
            let position = bench.replica.position();
            assert_eq!((position.epoch, position.landed), (Epoch(2), durable), "{fault:?}");
            let next = [bench.delta(&[8, 9, 20])];
            bench.replica.land(&next).await.unwrap();
            let epoch = bench.cut().await.unwrap();
            assert!(read_point(&bench.replica, epoch).await.unwrap() == bench.content, "{fault:?}");
        });
    }
}

#[test]
fn a_step_that_was_abandoned_halfway_stops_the_replica() {
    run(async {
        let mut bench = Bench::protected().await;
        let next = [bench.delta(&[1, 9])];
        {
            let landing = bench.replica.land(&next);
            let mut landing = std::pin::pin!(landing);
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(landing.as_mut().poll(context).is_ready())
            });
            assert!(!once.await, "it ended at once");
        }
        assert!(matches!(bench.replica.checkpoint().await, Err(Error::Stopped { .. })));
        let mut bench = bench.reopened().await;
        bench.replica.land(&next).await.unwrap();
        let epoch = bench.cut().await.unwrap();
        assert!(read_point(&bench.replica, epoch).await.unwrap() == bench.content);
    });
}

#[test]
fn a_fenced_pair_lands_nothing_and_keeps_every_point() {
    run(async {
        let mut bench = Bench::protected().await;
        let first = bench.content.clone();
        let deltas = [bench.delta(&[1, 2, 3])];
        bench.replica.land(&deltas).await.unwrap();
        let second = (bench.cut().await.unwrap(), bench.content.clone());
        assert!(bench.replica.rewind(Epoch(1)).await.is_err(), "it is not fenced");
        bench.replica.fence().await.unwrap();
        let refused = bench.delta(&[9]);
        bench.refuses(&[refused], Remedy::Refused).await;
        bench.replica.rewind(Epoch(1)).await.unwrap();
        let strict = RetentionPolicy { keep_seconds: 0, ..RetentionPolicy::default() };
        assert!(bench.replica.expire(&strict, Ok(u64::MAX / 2)).await.unwrap().points.is_empty());
        assert!(bench.world.borrow().disk() == first);
        assert!(bench.replica.rewind(Epoch(77)).await.is_err());
        bench.replica.rewind(second.0).await.unwrap();
        assert!(bench.world.borrow().disk() == second.1);
        let generation = bench.replica.commit(OnForeignWrites::Refuse).await.unwrap();
        assert_eq!(generation.number, 2);
        assert_eq!(
            bench.replica.commit(OnForeignWrites::Refuse).await.unwrap(),
            generation,
            "it is committed once"
        );
        assert!(bench.replica.unfence().await.is_err());
    });
}

#[test]
fn what_others_wrote_to_a_fenced_disk_is_in_no_point() {
    run(async {
        let mut bench = Bench::protected().await;
        let deltas = [bench.delta(&[1, 2, 3])];
        bench.replica.land(&deltas).await.unwrap();
        bench.cut().await.unwrap();
        bench.replica.fence().await.unwrap();
        bench.replica.rewind(Epoch(1)).await.unwrap();
        bench.strangers_write(super::script::place_of(2).start + 17);
        let written = bench.world.borrow().disk().to_vec();
        let mut bench = bench.reopened().await;
        for refused in [
            bench.replica.check_untouched().await.err(),
            bench.replica.rehearse_rewind(Epoch(2)).await.err(),
            bench.replica.rewind(Epoch(2)).await.err(),
            bench.replica.commit(OnForeignWrites::Refuse).await.err(),
        ] {
            assert!(matches!(refused, Some(Error::ForeignWrites { chunks: 1, .. })), "{refused:?}");
        }
        assert!(bench.world.borrow().disk() == written, "nothing was changed");
        bench.replica.commit(OnForeignWrites::Accept).await.unwrap();
        assert!(bench.world.borrow().disk() == written, "it is theirs");
    });
}

#[test]
fn a_fence_lifted_after_others_wrote_asks_for_a_comparison() {
    run(async {
        let mut bench = Bench::protected().await;
        bench.replica.fence().await.unwrap();
        bench.replica.unfence().await.unwrap();
        assert_eq!(bench.replica.position().state, PairState::Protected, "nobody wrote");
        bench.replica.fence().await.unwrap();
        bench.strangers_write(0);
        bench.replica.unfence().await.unwrap();
        assert_eq!(bench.replica.position().state, PairState::Resyncing);
    });
}

#[test]
fn a_rewind_without_room_changes_nothing() {
    run(async {
        let mut bench = Bench::protected().await;
        let deltas = [bench.delta(&(0..40).collect::<Vec<_>>())];
        bench.replica.land(&deltas).await.unwrap();
        bench.cut().await.unwrap();
        bench.replica.fence().await.unwrap();
        let used = bench.world.borrow().used_bytes();
        bench.world.borrow_mut().capacity = used;
        let (before, content) = (bench.replica.position(), bench.world.borrow().disk().to_vec());
        let error = bench.replica.rewind(Epoch(1)).await.unwrap_err();
        assert!(error.is_full(), "{error}");
        assert!(bench.replica.position() == before && bench.world.borrow().disk() == content);
        bench.world.borrow_mut().capacity = u64::MAX;
        bench.replica.rewind(Epoch(1)).await.unwrap();
        let point = read_point(&bench.replica, Epoch(1)).await.unwrap();
        assert!(bench.world.borrow().disk() == point);
    });
}

#[test]
fn a_rewind_keeps_its_room_whoever_fills_the_volume_meanwhile() {
    run(async {
        let mut bench = Bench::protected().await;
        let first = bench.content.clone();
        let deltas = [bench.delta(&(0..40).collect::<Vec<_>>())];
        bench.replica.land(&deltas).await.unwrap();
        bench.cut().await.unwrap();
        bench.replica.fence().await.unwrap();
        let world = Rc::clone(&bench.world);
        bench.replica.watch_restoration(move |_, _| {
            let mut world = world.borrow_mut();
            world.capacity = world.used_bytes();
        });
        bench.replica.rewind(Epoch(1)).await.unwrap();
        assert!(bench.world.borrow().disk() == first);
        assert!(!bench.world.borrow().names.keys().any(|name| name.starts_with("reserve-")));
    });
}

#[test]
fn offers_want_exactly_what_differs() {
    run(async {
        let mut bench = Bench::protected().await;
        let generation = bench.replica.position().generation;
        let digester = pair().digester();
        let mut other = bench.content.clone();
        other[5 * 4096] ^= 1;
        other[DISK_BYTES - 1] ^= 1;
        let digests: Vec<_> = other.chunks(4096).map(|chunk| digester.digest(chunk)).collect();
        let whole = Extent::between(0, DISK_BYTES as u64);
        let wanted = bench.replica.want(generation, whole, &digests).await.unwrap();
        assert_eq!(wanted.iter().collect::<Vec<_>>(), [5, 40]);
        assert!(bench.replica.want(generation, whole, &digests[1..]).await.is_err());
        assert!(bench.replica.want(generation.next(), whole, &digests).await.is_err());
    });
}

/// A pair of another digest algorithm or chunk size has deltas of another shape.
#[test]
fn deltas_of_another_shape_are_refused() {
    run(async {
        let world: Shared = Rc::new(RefCell::new(World::new(DISK_BYTES, 1)));
        let blake = failback_datapath::pipeline::DigestAlgorithm::Blake3;
        let pair = Pair { digest_algorithm: blake, ..pair() };
        let made = Replica::create(Disk(Rc::clone(&world)), Directory(Rc::clone(&world)), pair).await;
        let mut bench = Bench { replica: made.unwrap(), ..Bench::new().await };
        let next = bench.delta(&[1]);
        let error = bench.replica.land(&[next]).await.unwrap_err();
        assert!(matches!(error, Error::Shape { .. }) && error.remedy() == Remedy::Refused, "{error}");
    });
}
