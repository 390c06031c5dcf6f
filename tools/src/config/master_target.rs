//! `target.toml`: the settings of a master target.
//!
//! ```toml
//! state = "/var/lib/failback"                    # keys, peers, who owns which disk; default
//! control = "/run/failback/master-target.sock"   # default
//! listen = "127.0.0.1:9445"                      # default
//! retention = "/mnt/retention"
//!
//! [keep]
//! time = "24h"         # default
//! space = "100GiB"     # of each journal, at most; no limit where it is left out
//! free = "1GiB"        # always left on the volume; default
//!
//! [[pair]]
//! name = "web-1/root"
//! target = "/dev/sdb"
//! create = false       # make an image where there is nothing: VMDK for a name that ends in .vmdk, else raw
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use failback_datapath::journal::RetentionPolicy;
use failback_datapath::role::master_target::{Assignment, PairName};
use failback_datapath::wire::Create;
use serde::{Deserialize, Deserializer};

use super::quantity::{Bytes, Span};
use crate::control::Failed;
use crate::exit::Exit;

/// Where the settings are unless a command says otherwise.
pub const DEFAULT: &str = "/etc/failback/target.toml";

/// The settings of a master target.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Keys, peers, owners; `None` for the usual folder.
    pub state: Option<PathBuf>,
    /// The socket that commands ask at.
    #[serde(default = "default_control")]
    pub control: PathBuf,
    /// Where agents connect to.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where the journals lie.
    pub retention: PathBuf,
    /// What is kept.
    #[serde(default)]
    keep: Keep,
    /// The protected disks.
    #[serde(default, rename = "pair")]
    pub pairs: Vec<PairSettings>,
}

/// For how long points are kept, and at which price.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Keep {
    time: Span,
    space: Option<Bytes>,
    free: Bytes,
}

impl Default for Keep {
    fn default() -> Self {
        Self { time: Span(Duration::from_secs(24 * 3600)), space: None, free: Bytes(1 << 30) }
    }
}

/// A protected disk and its target.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PairSettings {
    /// `MACHINE/DISK`.
    #[serde(deserialize_with = "pair_name")]
    pub name: PairName,
    target: PathBuf,
    #[serde(default)]
    create: bool,
}

fn default_control() -> PathBuf {
    PathBuf::from("/run/failback/master-target.sock")
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9445))
}

fn pair_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PairName, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Settings {
    /// Reads `path`.
    ///
    /// # Errors
    /// Where it is wrong, with its place.
    pub fn read(path: &Path) -> Result<Self, Failed> {
        let settings: Self = super::read(path)?;
        let refused = |what: String| (Exit::Refused, format!("{}: {what}", path.display()));
        let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
        for pair in &settings.pairs {
            if !names.insert(&pair.name) {
                return Err(refused(format!("two pairs are called {}", pair.name)));
            }
            if !targets.insert(&pair.target) {
                return Err(refused(format!("two pairs have the target {}", pair.target.display())));
            }
            if !pair.target.is_absolute() {
                return Err(refused(format!("the target of {} must be an absolute path", pair.name)));
            }
        }
        Ok(settings)
    }

    /// What is kept.
    pub const fn policy(&self) -> RetentionPolicy {
        RetentionPolicy {
            keep_seconds: self.keep.time.0.as_secs(),
            free_bytes_min: self.keep.free.0,
            used_bytes_max: match self.keep.space {
                Some(Bytes(most)) => Some(most),
                None => None,
            },
        }
    }
}

impl PairSettings {
    /// Its target.
    pub fn assignment(&self) -> Assignment {
        let is_vmdk = self.target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vmdk"));
        let create = if is_vmdk { Create::VmdkFlat } else { Create::Raw };
        Assignment { target: self.target.clone(), create: self.create.then_some(create) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = folder.path().join("target.toml");
        std::fs::write(&path, text).expect("a file");
        Settings::read(&path).map_err(|(_, why)| why)
    }

    const PAIR: &str = "[[pair]]\nname = \"web-1/root\"\ntarget = \"/dev/sdb\"\n";

    #[test]
    fn what_is_left_out_is_as_it_usually_is() {
        let settings = read(&format!("retention = \"/mnt/retention\"\n{PAIR}")).expect("it is right");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9445");
        let policy = settings.policy();
        assert_eq!(
            (policy.keep_seconds, policy.free_bytes_min, policy.used_bytes_max),
            (86_400, 1 << 30, None)
        );
        let assignment = settings.pairs[0].assignment();
        assert_eq!(assignment, Assignment { target: "/dev/sdb".into(), create: None });
    }

    #[test]
    fn an_image_is_made_by_its_name() {
        let text = "retention = \"/r\"\n[keep]\ntime = \"1h\"\nspace = \"2G\"\nfree = \"1M\"\n\
            [[pair]]\nname = \"a/b\"\ntarget = \"/x/y.vmdk\"\ncreate = true\n";
        let settings = read(text).expect("it is right");
        assert_eq!(settings.pairs[0].assignment().create, Some(Create::VmdkFlat));
        assert_eq!(settings.policy().used_bytes_max, Some(2 << 30));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let twice = read(&format!("retention = \"/r\"\n{PAIR}{PAIR}")).expect_err("it is wrong");
        assert!(twice.contains("two pairs are called web-1/root"), "{twice}");
        let same = PAIR.replace("root", "data");
        let same = read(&format!("retention = \"/r\"\n{PAIR}{same}")).expect_err("it is wrong");
        assert!(same.contains("two pairs have the target /dev/sdb"), "{same}");
        for wrong in
            [PAIR.replace("web-1/root", "../x"), PAIR.replace("/dev/sdb", "sdb"), format!("{PAIR}x = 1\n")]
        {
            assert!(read(&format!("retention = \"/r\"\n{wrong}")).is_err(), "{wrong}");
        }
        assert!(read(PAIR).is_err_and(|why| why.contains("retention")));
    }
}
