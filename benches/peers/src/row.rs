//! The rows of the comparison: what is done, who takes part, what is to be reached.

use crate::contestant::{Contestant, Place, Role};
use crate::copy;
use crate::error::{Error, on_path};
use crate::failback::Failback;
use crate::field::{Field, Preparation, free_port};
use crate::plan::{Command, Pipeline, Server};
use crate::resync;
use clap::ValueEnum;
use serde::Serialize;
use std::fs;

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RowName {
    /// A whole disk to another on this host.
    LocalCopy,
    /// A whole disk over TCP; failback encrypts, its peers do not.
    TcpTlsCopy,
    /// A whole disk over TCP, all encrypted.
    TcpTlsCopyNbdcopyTls,
    /// 1 % of chunks changed, over TCP; failback encrypts, its peers do not.
    TcpTlsResync,
    /// 1 % of chunks changed, on this host, against reading both disks.
    LocalResync,
    /// A sparse image of 8 TiB into a new one.
    #[value(name = "sparse-8tib")]
    #[serde(rename = "sparse-8tib")]
    SparseImage,
}

/// What `failback` is to reach in a row. Ratios are to the row's fastest peer.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Goals {
    /// Time, as a ratio.
    pub(crate) seconds_ratio: Option<f64>,
    /// CPU time of the machine, as a ratio.
    pub(crate) cpu_ratio: Option<f64>,
    /// Time, absolute.
    pub(crate) seconds: Option<f64>,
    /// Memory of the largest process.
    pub(crate) peak_rss_mib: f64,
}

impl RowName {
    /// The name for `--only`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LocalCopy => "local-copy",
            Self::TcpTlsCopy => "tcp-tls-copy",
            Self::TcpTlsCopyNbdcopyTls => "tcp-tls-copy-nbdcopy-tls",
            Self::TcpTlsResync => "tcp-tls-resync",
            Self::LocalResync => "local-resync",
            Self::SparseImage => "sparse-8tib",
        }
    }

    /// What the row compares, in a line.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::LocalCopy => "copy, loop device to loop device",
            Self::TcpTlsCopy => "copy over TCP loopback: failback with TLS 1.3, peers in the clear",
            Self::TcpTlsCopyNbdcopyTls => "copy over TCP loopback, all with TLS 1.3",
            Self::TcpTlsResync => {
                "1 % of chunks changed, over TCP: failback with TLS 1.3, peers in the clear"
            }
            Self::LocalResync => "1 % of chunks changed, both disks on this host; fio only reads them",
            Self::SparseImage => "sparse image of 8 TiB (6 MiB of data) into a new sparse image",
        }
    }

    /// What is to be reached.
    pub(crate) fn goals(self) -> Goals {
        let seconds_ratio = match self {
            Self::LocalCopy => Some(0.50),
            Self::TcpTlsCopy => Some(0.54),
            Self::TcpTlsCopyNbdcopyTls => Some(0.17),
            Self::TcpTlsResync => Some(0.32),
            Self::LocalResync => Some(1.1),
            Self::SparseImage => None,
        };
        let cpu_ratio = seconds_ratio.map(|_| 1.0);
        let seconds = (self == Self::SparseImage).then_some(60.0);
        Goals { seconds_ratio, cpu_ratio, seconds, peak_rss_mib: 64.0 }
    }

    /// What the target is before each run.
    pub(crate) fn preparation(self) -> Preparation {
        match self {
            Self::LocalCopy | Self::TcpTlsCopy | Self::TcpTlsCopyNbdcopyTls => Preparation::Recycled,
            Self::TcpTlsResync | Self::LocalResync => Preparation::Differing,
            Self::SparseImage => Preparation::Removed,
        }
    }

    /// Whether `failback` talks to a server of its own, and so must be paired.
    pub(crate) fn is_networked(self) -> bool {
        matches!(self, Self::TcpTlsCopy | Self::TcpTlsCopyNbdcopyTls | Self::TcpTlsResync)
    }

    /// Who takes part, `failback` first.
    ///
    /// # Errors
    /// A file or key that a contestant needs cannot be made.
    pub(crate) fn contestants(self, field: &Field, failback: &Failback) -> Result<Vec<Contestant>, Error> {
        let place = place_of(field, self.name())?;
        let own = |command: Command| {
            Contestant::new("failback", &[], &place, Pipeline::new(vec![command])).playing(Role::Failback)
        };
        let (source, target) = (place.source.as_str(), place.target.as_str());
        let server = || -> Server { failback.serve(target) };
        let (failback, peers) = match self {
            Self::LocalCopy => (own(failback.copy(source, target)), copy::local(&place)),
            Self::TcpTlsCopy => {
                (own(failback.copy_to_server(source)).served_by(server()), copy::over_tcp(&place))
            }
            Self::TcpTlsCopyNbdcopyTls => {
                (own(failback.copy_to_server(source)).served_by(server()), copy::over_tls(&place)?)
            }
            Self::TcpTlsResync => {
                (own(failback.resync_to_server(source)).served_by(server()), resync::over_tcp(&place)?)
            }
            Self::LocalResync => (own(failback.resync(source, target)), resync::local(&place)),
            Self::SparseImage => (into_image(field, failback, own)?, Vec::new()),
        };
        Ok(std::iter::once(failback).chain(peers).collect())
    }
}

fn into_image(
    field: &Field,
    failback: &Failback,
    own: impl Fn(Command) -> Contestant,
) -> Result<Contestant, Error> {
    let (source, target) = (field.sparse_source()?, field.sparse_target());
    let mut contestant = own(failback.create(&source.display().to_string(), &target.display().to_string()));
    contestant.needs.push("qemu-img");
    contestant.plan.flush = Some(target);
    Ok(contestant)
}

/// A place of the row's own, so that no file is shared between rows.
fn place_of(field: &Field, row: &str) -> Result<Place, Error> {
    let directory = field.file(row);
    fs::create_dir(&directory).map_err(on_path("create", &directory))?;
    Ok(Place {
        source: field.source().argument(),
        target: field.target().argument(),
        target_name: field.target().name(),
        ports: [free_port()?, free_port()?],
        directory,
        logs: field.logs(),
    })
}
