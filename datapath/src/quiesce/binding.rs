//! To which machine an agent belongs.
//!
//! The agent's key and state lie on the disks that it replicates. A drill, a boot
//! check and the machine at home carry them too; what tells those apart is the
//! machine around the disk.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::disk::storage::{DeviceNumber, Host, identity_of_device, read_bounded};
use crate::error::{Remediable, Remedy};

/// What is known of a machine. Kept by an agent when it is set up, and compared
/// with what it finds at every start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The UUID that the machine's firmware tells (DMI), where it can be read.
    pub firmware: Option<String>,
    /// `/etc/machine-id`.
    pub machine: Option<String>,
    /// The protected disks by the names that the agent gives them. Disks whose
    /// identity does not outlive a reboot are left out.
    pub disks: BTreeMap<String, String>,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The firmware's UUID.
    Firmware {
        /// As it was.
        bound: Option<String>,
        /// As it is.
        found: Option<String>,
    },
    /// The machine id.
    Machine {
        /// As it was.
        bound: Option<String>,
        /// As it is.
        found: Option<String>,
    },
    /// The disk of a name.
    Disk {
        /// The name.
        name: String,
        /// As it was.
        bound: String,
        /// As it is.
        found: String,
    },
}

/// This is not the machine that the agent belongs to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not the machine that this agent belongs to, so it sends nothing: {}; \
    if it is meant to be, bind the agent anew",
    list(differences)
)]
pub struct Relocated {
    /// What differs, at least one thing.
    pub differences: Vec<Difference>,
}

impl Remediable for Relocated {
    fn remedy(&self) -> Remedy {
        Remedy::Stop
    }
}

impl Binding {
    /// Reads what this machine and these disks are.
    ///
    /// # Errors
    /// [`Error::Storage`] where a disk is not there or `/sys` cannot be read.
    pub fn read<'a>(disks: impl IntoIterator<Item = (&'a str, DeviceNumber)>) -> Result<Self, Error> {
        Self::on(&Host::here(), disks)
    }

    /// The same on a given [`Host`].
    ///
    /// # Errors
    /// As [`Binding::read`].
    pub fn on<'a>(
        host: &Host,
        disks: impl IntoIterator<Item = (&'a str, DeviceNumber)>,
    ) -> Result<Self, Error> {
        let line = |path: &str| {
            let text = read_bounded(&host.path(path)).ok()?;
            Some(text.trim().to_ascii_lowercase()).filter(|text| !text.is_empty())
        };
        let mut binding = Self {
            firmware: line("sys/class/dmi/id/product_uuid"),
            machine: line("etc/machine-id"),
            ..Self::default()
        };
        for (name, number) in disks {
            let identity = identity_of_device(host, number)?;
            if identity.lasts_over_reboot() {
                binding.disks.insert(name.to_owned(), identity.to_string());
            }
        }
        Ok(binding)
    }

    /// Compares with what is found now. A disk that only one of the two names was
    /// added or taken away, which moves no machine.
    ///
    /// # Errors
    /// [`Relocated`] where anything differs; also where it could be told then and
    /// cannot now, or the other way round.
    pub fn check(&self, found: &Self) -> Result<(), Relocated> {
        let mut differences = Vec::new();
        if self.firmware != found.firmware {
            differences
                .push(Difference::Firmware { bound: self.firmware.clone(), found: found.firmware.clone() });
        }
        if self.machine != found.machine {
            differences
                .push(Difference::Machine { bound: self.machine.clone(), found: found.machine.clone() });
        }
        for (name, bound) in &self.disks {
            if let Some(found) = found.disks.get(name).filter(|found| *found != bound) {
                let (name, bound, found) = (name.clone(), bound.clone(), found.clone());
                differences.push(Difference::Disk { name, bound, found });
            }
        }
        if differences.is_empty() { Ok(()) } else { Err(Relocated { differences }) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        match self {
            Self::Firmware { bound, found } => {
                write!(f, "the firmware's UUID was {} and is {}", shown(bound), shown(found))
            }
            Self::Machine { bound, found } => {
                write!(f, "the machine id was {} and is {}", shown(bound), shown(found))
            }
            Self::Disk { name, bound, found } => write!(f, "disk {name} was {bound} and is {found}"),
        }
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::fs;

    use super::*;

    fn binding() -> Binding {
        let disks = [("root", "wwid:naa.5"), ("data", "serial:QEMU:7")];
        Binding {
            firmware: Some("ec2a".into()),
            machine: Some("0123".into()),
            disks: disks.map(|(name, identity)| (name.to_owned(), identity.to_owned())).into(),
        }
    }

    #[test]
    fn the_same_machine_is_the_same() {
        assert_eq!(binding().check(&binding()), Ok(()));
        let mut grown = binding();
        grown.disks.insert("new".into(), "wwid:naa.6".into());
        grown.disks.remove("data");
        assert_eq!(binding().check(&grown), Ok(()), "disks may come and go");
    }

    #[test]
    fn each_difference_is_told() {
        let mut moved = binding();
        moved.firmware = None;
        moved.machine = Some("4567".into());
        moved.disks.insert("root".into(), "wwid:naa.9".into());
        let relocated = binding().check(&moved).unwrap_err();
        assert_eq!(relocated.differences.len(), 3);
        let text = relocated.to_string();
        for part in [
            "the firmware's UUID was ec2a and is unknown",
            "the machine id was 0123 and is 4567",
            "disk root was wwid:naa.5 and is wwid:naa.9",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let mut cloned = binding();
        cloned.firmware = Some("ec2b".into());
        assert_eq!(
            binding().check(&cloned).unwrap_err().differences.len(),
            1,
            "a clone carries the machine id"
        );
    }

    #[test]
    fn a_machine_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        assert_eq!(Binding::on(&host, []).unwrap(), Binding::default());
        for (path, text) in [("sys/class/dmi/id/product_uuid", "EC2A-1\n"), ("etc/machine-id", "0123\n")] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = Binding::on(&host, []).unwrap();
        assert_eq!((found.firmware.as_deref(), found.machine.as_deref()), (Some("ec2a-1"), Some("0123")));
        let absent = DeviceNumber { major: 1000, minor: 1 };
        assert!(matches!(Binding::on(&host, [("root", absent)]), Err(Error::Storage(_))));
    }
}
