//! What agent and watchdog say to each other: packets of 32 bytes on a socket
//! pair, between two processes of the same binary.
//!
//! Little-endian:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | kind |
//! | 2 | 2 | 0 |
//! | 4 | 4 | the cut that it belongs to |
//! | 8 | 8 | first value |
//! | 16 | 8 | second value |
//! | 24 | 8 | third value |

use std::time::Duration;

/// Size of a packet.
pub(super) const BYTES: usize = 32;

const VERSION: u8 = 1;

/// One packet, without its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    kind: u8,
    cut: u32,
    values: [u64; 3],
}

impl Packet {
    fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.kind;
        bytes[4..8].copy_from_slice(&self.cut.to_le_bytes());
        for (place, value) in bytes[8..].as_chunks_mut::<8>().0.iter_mut().zip(self.values) {
            *place = value.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        if bytes[0] != VERSION {
            return None;
        }
        let cut = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let mut values = [0; 3];
        for (value, place) in values.iter_mut().zip(bytes[8..].as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*place);
        }
        Some(Self { kind: bytes[1], cut, values })
    }
}

/// What the agent orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::quiesce) enum Order {
    /// Begin a cut: the record of `count` filesystems comes with it.
    Begin { count: u64 },
    /// Hold the next filesystem, a file of which comes with it.
    Hold,
    /// Write out what is unwritten, without stopping anybody.
    Sync,
    /// Freeze all that is held, and thaw when `limit` has passed: since the freeze,
    /// or, where it `renews`, since the last time that all was confirmed.
    Freeze { limit: Duration, renews: bool },
    /// Say whether all is still frozen.
    Confirm,
    /// Thaw.
    Thaw,
    /// Power the machine off if all is still frozen.
    PowerOff,
}

/// Why the filesystems were thawed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent asked for it.
    Asked,
    /// The time that was given had passed.
    Deadline,
    /// Somebody else had thawed one of them.
    Broken,
}

/// What the watchdog reports. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::quiesce) enum Report {
    /// It runs; whether its memory is locked.
    Ready { is_locked: bool },
    /// All that was unwritten when it was ordered is written.
    Synced,
    /// Filesystem `index` is of a kind that cannot be frozen.
    Unfreezable { index: u64 },
    /// All others are frozen.
    Frozen { began: u64, frozen: u64 },
    /// Nothing is frozen any more: filesystem `index` could not be, for the error
    /// `errno`; 0 where it was not done when the time was over.
    NotFrozen { index: u64, errno: u64 },
    /// All is still frozen.
    Confirmed,
    /// All is thawed that could be. Bit 0 of the wire's first value: each was still
    /// frozen until then; bits 8..: the [`Cause`].
    Thawed { is_whole: bool, cause: Cause, thawing: u64, thawed: u64 },
    /// The machine would have been powered off now, had this not been a rehearsal.
    Rehearsed,
    /// The kernel did not power it off.
    PowerFailed { errno: u64 },
    /// The order cannot be followed: an earlier one is not done, or no process
    /// or thread is to be had for it.
    Busy { errno: u64 },
}

impl Cause {
    const ALL: [Self; 3] = [Self::Asked, Self::Deadline, Self::Broken];

    fn code(self) -> u64 {
        Self::ALL.iter().zip(0..).find_map(|(cause, code)| (*cause == self).then_some(code)).unwrap_or(0)
    }

    fn of(code: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

impl Order {
    pub(in crate::quiesce) fn encode(self, cut: u32) -> [u8; BYTES] {
        let (kind, values) = match self {
            Self::Begin { count } => (1, [count, 0, 0]),
            Self::Hold => (2, [0; 3]),
            Self::Sync => (3, [0; 3]),
            Self::Freeze { limit, renews } => (4, [nanoseconds(limit), u64::from(renews), 0]),
            Self::Confirm => (5, [0; 3]),
            Self::Thaw => (6, [0; 3]),
            Self::PowerOff => (7, [0; 3]),
        };
        Packet { kind, cut, values }.encode()
    }

    /// The order and its cut; `None` for bytes that are none.
    pub(in crate::quiesce) fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let Packet { kind, cut, values: [first, second, _] } = Packet::decode(bytes)?;
        let order = match kind {
            1 => Self::Begin { count: first },
            2 => Self::Hold,
            3 => Self::Sync,
            4 => Self::Freeze { limit: Duration::from_nanos(first), renews: second != 0 },
            5 => Self::Confirm,
            6 => Self::Thaw,
            7 => Self::PowerOff,
            _ => return None,
        };
        Some((cut, order))
    }
}

impl Report {
    pub(in crate::quiesce) fn encode(self, cut: u32) -> [u8; BYTES] {
        let (kind, values) = match self {
            Self::Ready { is_locked } => (65, [u64::from(is_locked), 0, 0]),
            Self::Synced => (66, [0; 3]),
            Self::Unfreezable { index } => (67, [index, 0, 0]),
            Self::Frozen { began, frozen } => (68, [began, frozen, 0]),
            Self::NotFrozen { index, errno } => (69, [index, errno, 0]),
            Self::Confirmed => (70, [0; 3]),
            Self::Thawed { is_whole, cause, thawing, thawed } => {
                (71, [u64::from(is_whole) | cause.code() << 8, thawing, thawed])
            }
            Self::Rehearsed => (72, [0; 3]),
            Self::PowerFailed { errno } => (73, [errno, 0, 0]),
            Self::Busy { errno } => (74, [errno, 0, 0]),
        };
        Packet { kind, cut, values }.encode()
    }

    /// The report and its cut; `None` for bytes that are none.
    pub(in crate::quiesce) fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let Packet { kind, cut, values: [first, second, third] } = Packet::decode(bytes)?;
        let report = match kind {
            65 => Self::Ready { is_locked: first & 1 != 0 },
            66 => Self::Synced,
            67 => Self::Unfreezable { index: first },
            68 => Self::Frozen { began: first, frozen: second },
            69 => Self::NotFrozen { index: first, errno: second },
            70 => Self::Confirmed,
            71 => Self::Thawed {
                is_whole: first & 1 != 0,
                cause: Cause::of(first >> 8)?,
                thawing: second,
                thawed: third,
            },
            72 => Self::Rehearsed,
            73 => Self::PowerFailed { errno: first },
            74 => Self::Busy { errno: first },
            _ => return None,
        };
        Some((cut, report))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_come_back_as_they_were() {
        let orders = [
            Order::Begin { count: 3 },
            Order::Hold,
            Order::Sync,
            Order::Freeze { limit: Duration::from_millis(1500), renews: false },
            Order::Freeze { limit: Duration::from_secs(900), renews: true },
            Order::Confirm,
            Order::Thaw,
            Order::PowerOff,
        ];
        for order in orders {
            assert_eq!(Order::decode(&order.encode(7)), Some((7, order)));
            assert_eq!(Report::decode(&order.encode(7)), None);
        }
        let thawed = |cause| Report::Thawed { is_whole: true, cause, thawing: 5, thawed: 6 };
        let reports = [
            Report::Ready { is_locked: true },
            Report::Synced,
            Report::Unfreezable { index: 2 },
            Report::Frozen { began: 1, frozen: u64::MAX },
            Report::NotFrozen { index: 1, errno: 16 },
            Report::Confirmed,
            thawed(Cause::Asked),
            thawed(Cause::Deadline),
            thawed(Cause::Broken),
            Report::Rehearsed,
            Report::PowerFailed { errno: 1 },
            Report::Busy { errno: 11 },
        ];
        for report in reports {
            assert_eq!(Report::decode(&report.encode(9)), Some((9, report)));
            assert_eq!(Order::decode(&report.encode(9)), None);
        }
    }

    #[test]
    fn the_bytes_are_these() {
        let freeze = Order::Freeze { limit: Duration::from_secs(1), renews: true };
        let text = data_encoding::HEXLOWER.encode(&freeze.encode(258));
        assert_eq!(text, "010400000201000000ca9a3b0000000001000000000000000000000000000000");
        let report = Report::Thawed { is_whole: true, cause: Cause::Deadline, thawing: 2, thawed: 3 };
        let text = data_encoding::HEXLOWER.encode(&report.encode(1));
        assert_eq!(text, "0147000001000000010100000000000002000000000000000300000000000000");
    }

    #[test]
    fn other_bytes_are_none() {
        let good = Order::Thaw.encode(1);
        assert_eq!(Order::decode(&good[..31]), None);
        let mut other = good;
        other[0] = 2;
        assert_eq!(Order::decode(&other), None);
        assert_eq!(Report::decode(&[]), None);
    }
}
