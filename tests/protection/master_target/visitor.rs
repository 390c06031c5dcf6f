//! An agent that is made here: it knows what its disk holds, and what was sent.

use std::time::{Duration, Instant};

use failback_datapath::delta::{DigestAlgorithm, Filling, Manifest, Place, Shape};
use failback_datapath::pipeline::Digester;
use failback_datapath::unit::{
    Chain, ChunkSize, DeltaNumber, Digest, Epoch, Extent, Generation, MachineCut, SectorSize, to_u64,
    to_usize,
};
use failback_datapath::wire::{
    Connection, Cut, CutKind, Error, Fence, Fenced, Intent, Kind, Point, Position, Protect, Protecting,
    Remark, Remote, Waiting, acknowledged,
};

/// What a master target says of a disk that somebody protects.
pub const HAS_A_SESSION: &str = "has a session already";

/// When a connection that was closed is noticed at last.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// Chunks of an offer.
const OFFER_CHUNKS: u64 = 32;

/// About when points are cut.
pub const CUT_UNIX_MS: u64 = 1_795_269_600_000;

/// A connection that protects a disk.
pub struct Visitor {
    connection: Connection,
    protecting: Protecting,
    size_bytes: u64,
    epoch: Epoch,
    sent: DeltaNumber,
    manifest: Manifest,
    chain: Chain,
}

/// What the agent of `web-1` says of its disk `root`.
pub fn hello(size_bytes: usize, intent: Intent, position: Option<Position>) -> Protect {
    Protect {
        machine: "web-1".to_owned(),
        machine_identity: "dmi:1".to_owned(),
        disk: "root".to_owned(),
        disk_identity: "serial:1".to_owned(),
        size_bytes: to_u64(size_bytes),
        sector: SectorSize::BYTES_512,
        chunk: ChunkSize::MIN,
        digest: DigestAlgorithm::Blake3,
        position,
        intent,
        is_fenced: false,
    }
}

/// Everything is offered.
pub fn anew() -> Intent {
    Intent::Synchronize { reason: "new".to_owned() }
}

impl Visitor {
    /// Connects; whatever the master target says against it is the error. One that has
    /// not noticed yet that the last visitor is gone is asked again.
    pub async fn connect(remote: &Remote, protect: &Protect) -> Result<Self, Error> {
        let until = Instant::now() + NOTICED_WITHIN;
        loop {
            match Self::connect_at_once(remote, protect).await {
                Err(busy) if busy.to_string().contains(HAS_A_SESSION) && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                connected => return connected,
            }
        }
    }

    /// The same, and one that has a session already is an error.
    pub async fn connect_at_once(remote: &Remote, protect: &Protect) -> Result<Self, Error> {
        let mut connection = remote.connect().await?;
        connection.sender.send_message(Kind::Protect, protect).await?;
        let protecting: Protecting = connection.receiver.receive_message(Kind::Protecting).await?;
        Ok(Self {
            epoch: protecting.position.epoch,
            sent: protecting.position.landed,
            manifest: protecting.manifest,
            chain: protecting.chain,
            size_bytes: protect.size_bytes,
            connection,
            protecting,
        })
    }

    /// Whether everything must be offered.
    pub fn must_synchronize(&self) -> bool {
        self.protecting.synchronize
    }

    pub fn generation(&self) -> Generation {
        self.protecting.position.generation
    }

    /// Where the target stands, as far as the agent knows.
    pub fn position(&self) -> Position {
        Position { generation: self.generation(), epoch: self.epoch, landed: self.sent }
    }

    fn chunk(&self, index: u64) -> Extent {
        self.protecting.chunk.extent(index, self.size_bytes)
    }

    fn digester(&self) -> Digester {
        Digester::new(self.protecting.digest, self.protecting.key)
    }

    /// Offers the whole disk, sends what is wanted, and says how many chunks that was.
    pub async fn synchronize(&mut self, content: &[u8]) -> usize {
        let chunks = self.protecting.chunk.count(self.size_bytes);
        let (digester, mut sent) = (self.digester(), 0);
        for first in (0..chunks).step_by(to_usize(OFFER_CHUNKS)) {
            let indexes: Vec<u64> = (first..(first + OFFER_CHUNKS).min(chunks)).collect();
            let digests: Vec<_> =
                indexes.iter().map(|index| digester.digest(bytes_of(content, self.chunk(*index)))).collect();
            let last = *indexes.last().expect("there is one");
            let window = Extent::between(self.chunk(first).offset(), self.chunk(last).end());
            self.connection.sender.send_offer(window, &digests).await.expect("sent");
            let header = self.expect(Kind::Want).await.expect("an answer");
            let receiver = &mut self.connection.receiver;
            let wanted = receiver.receive_want(header, self.protecting.chunk, self.size_bytes).await;
            let wanted = wanted.expect("an answer");
            let wanted: Vec<u64> = indexes
                .into_iter()
                .zip(wanted)
                .filter_map(|(index, wanted)| wanted.then_some(index))
                .collect();
            sent += wanted.len();
            if !wanted.is_empty() {
                self.send(content, &wanted).await;
            }
        }
        sent
    }

    /// Sends what differs between two states of the disk.
    pub async fn send_changes(&mut self, before: &[u8], after: &[u8]) {
        let chunks = 0..self.protecting.chunk.count(self.size_bytes);
        let differs =
            |index: &u64| bytes_of(before, self.chunk(*index)) != bytes_of(after, self.chunk(*index));
        let changed: Vec<u64> = chunks.filter(differs).collect();
        for some in changed.chunks(200) {
            self.send(after, some).await;
        }
    }

    /// Sends one delta.
    pub async fn send(&mut self, content: &[u8], chunks: &[u64]) {
        self.submit(content, chunks).await;
        let header = self.expect(Kind::Received).await.expect("credit");
        assert_eq!(acknowledged(&header), (self.epoch, self.sent));
    }

    /// Sends one delta, and does not wait until it was taken in.
    pub async fn submit(&mut self, content: &[u8], chunks: &[u64]) {
        self.submit_as(content, chunks, |digest| digest).await;
    }

    /// Sends a delta whose bytes are not those that were digested, and hears what is
    /// said to it.
    pub async fn submit_damaged(&mut self, content: &[u8], chunks: &[u64]) -> Remark {
        self.submit_as(content, chunks, |digest| Digest(digest.0.map(|byte| !byte))).await;
        let header = self.expect(Kind::Remark).await.expect("a remark");
        self.connection.receiver.body(header).await.expect("a remark")
    }

    async fn submit_as(&mut self, content: &[u8], chunks: &[u64], said: impl Fn(Digest) -> Digest) {
        let shape = Shape {
            disk_bytes: self.size_bytes,
            chunk: self.protecting.chunk,
            algorithm: self.protecting.digest,
        };
        let (mut filling, digester) = (Filling::new(shape), self.digester());
        for index in chunks {
            let extent = self.chunk(*index);
            let bytes = bytes_of(content, extent);
            let pushed = match bytes.iter().all(|byte| *byte == 0) {
                true => filling.push_zero(extent),
                false => filling.push_data(extent, bytes, said(digester.digest(bytes))),
            };
            pushed.expect("a small delta has room");
        }
        self.sent = self.sent.next();
        let place = Place { generation: self.generation(), epoch: self.epoch, number: self.sent };
        let filled = filling.close(place).expect("it has entries");
        self.manifest = self.manifest.with(filled.head());
        self.connection.sender.send_delta(&filled.raw()).await.expect("sent");
    }

    /// Makes a point, and gives its epoch.
    pub async fn cut(&mut self, kind: CutKind, name: &str) -> Epoch {
        let cut_unix_ms = CUT_UNIX_MS + self.epoch.0;
        self.try_cut(kind, name, cut_unix_ms).await.expect("a point")
    }

    /// Asks for a point that was cut at this time.
    pub async fn try_cut(&mut self, kind: CutKind, name: &str, cut_unix_ms: u64) -> Result<Epoch, Error> {
        let epoch = self.epoch;
        self.chain = Chain::next(self.chain, self.generation(), epoch, self.manifest);
        let cut = Cut {
            epoch,
            deltas: self.sent,
            manifest: self.manifest,
            chain: self.chain,
            kind,
            name: name.to_owned(),
            machine_cut: MachineCut { number: 0xc0_0000 + epoch.0, disks: 1 },
            cut_unix_ms,
            freeze_ms: 7,
        };
        self.connection.sender.send_message(Kind::Cut, &cut).await.expect("sent");
        let header = self.expect(Kind::Point).await?;
        let point: Point = self.connection.receiver.body(header).await.expect("a point");
        assert_eq!((point.epoch, point.chain), (epoch, self.chain));
        (self.epoch, self.sent, self.manifest) = (epoch.next(), DeltaNumber::default(), Manifest::EMPTY);
        Ok(epoch)
    }

    /// Says that the source has stopped for good.
    pub async fn fence(&mut self, epoch: Epoch) {
        self.connection.sender.send_message(Kind::Fence, &Fence { epoch }).await.expect("sent");
        let header = self.expect(Kind::Fenced).await.expect("a fence");
        let fenced: Fenced = self.connection.receiver.body(header).await.expect("a fence");
        assert_eq!(fenced.epoch, epoch);
    }

    /// What ends the connection.
    pub async fn end(&mut self) -> Error {
        loop {
            match self.connection.receiver.receive().await {
                Ok(header) if matches!(header.kind, Kind::Durable | Kind::Received) => {}
                Ok(header) => panic!("{:?} came", header.kind),
                Err(error) => return error,
            }
        }
    }

    /// The next frame that is no checkpoint, which is of `kind`.
    async fn expect(&mut self, kind: Kind) -> Result<failback_datapath::wire::Header, Error> {
        loop {
            let header = self.connection.receiver.receive().await?;
            if header.kind == kind {
                return Ok(header);
            }
            if header.kind == Kind::Waiting {
                let _room: Waiting = self.connection.receiver.body(header).await?;
                continue;
            }
            assert_eq!(header.kind, Kind::Durable, "instead of {kind:?}");
        }
    }
}

fn bytes_of(content: &[u8], extent: Extent) -> &[u8] {
    &content[to_usize(extent.offset())..to_usize(extent.end())]
}
