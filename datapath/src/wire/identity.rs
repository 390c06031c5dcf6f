//! Who this machine is on the wire: one key pair and its certificate.
//!
//! In: a private directory. Out: an [`Identity`] and the TLS configurations that
//! show it. There is no authority above a certificate: peers know each other by
//! the certificate's [`Fingerprint`], so its names and dates say nothing.
//! Invariants: one identity per directory, also when processes race to make it;
//! TLS 1.3 only, no early data, no tickets, no resumption: every connection
//! proves the key anew. Never: shows the key, in `Debug`, in errors or elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::BASE64_NOPAD;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Remediable, Remedy};

mod private_directory;
#[cfg(test)]
mod tests;

pub use private_directory::{PrivateDirectory, StateError};

/// Key and certificate lie in one file, so that they cannot come apart.
const FILE: &str = "identity.pem";
/// Ours has about 800 bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The name in the certificate. Nobody checks it.
const SUBJECT: &str = "failback";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or the file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A key or its certificate could not be made.
    #[error("cannot make a key pair and certificate: {source}")]
    Generate {
        /// What the generator said.
        source: rcgen::Error,
    },
    /// The file holds something else than a key and a certificate.
    #[error("{path} holds no key and certificate of failback: {reason}; move it away, and pair again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// The TLS library refused the key, the certificate or the settings.
    #[error("TLS cannot be set up with the certificate in {path}: {source}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::State(error) => error.remedy(),
            Self::Generate { .. } | Self::Malformed { .. } | Self::Tls { .. } => Remedy::Stop,
        }
    }
}

/// SHA-256 of a certificate: what peers remember of each other.
///
/// Written as `SHA256:` and the digest in base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    /// Size of the digest.
    pub const BYTES: usize = 32;
    const PREFIX: &str = "SHA256:";

    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = digest::digest(&digest::SHA256, certificate);
        let mut bytes = [0; Self::BYTES];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// From the bare digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bare digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, BASE64_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no fingerprint: it is SHA256: and 43 characters of base64")]
pub struct InvalidFingerprint {
    /// The text given.
    pub text: String,
}

impl Remediable for InvalidFingerprint {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(Self::PREFIX)
            .and_then(|digest| BASE64_NOPAD.decode(digest.as_bytes()).ok())
            .and_then(|bytes| <[u8; Self::BYTES]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| InvalidFingerprint { text: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// The key pair and certificate of this machine (ECDSA P-256, self-signed).
#[derive(Clone)]
pub struct Identity {
    path: PathBuf,
    fingerprint: Fingerprint,
    credentials: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// The identity kept in `directory` (mode 0700, made where it is missing);
    /// a new one where there is none yet.
    ///
    /// # Errors
    /// The directory or the file is not accessible, open to other users or of
    /// another user, or the file holds no identity.
    pub fn load_or_create(directory: &Path) -> Result<Self, Error> {
        let directory = PrivateDirectory::open_or_create(directory)?;
        if let Some(text) = directory.read(FILE, FILE_BYTES_MAX)? {
            return Self::from_pem(&directory, &text);
        }
        let text = generate().map_err(|source| Error::Generate { source })?;
        directory.create_once(FILE, text.as_bytes())?;
        // Whoever lost a race reads what the winner made.
        let text = directory.read(FILE, FILE_BYTES_MAX)?.ok_or_else(|| Error::Malformed {
            path: directory.path().join(FILE),
            reason: "it vanished while it was being made",
        })?;
        Self::from_pem(&directory, &text)
    }

    /// The fingerprint of the certificate: what peers know this machine by.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn from_pem(directory: &PrivateDirectory, text: &[u8]) -> Result<Self, Error> {
        let path = directory.path().join(FILE);
        let malformed = |reason| Error::Malformed { path: path.clone(), reason };
        let certificate =
            CertificateDer::from_pem_slice(text).map_err(|_| malformed("there is no certificate in it"))?;
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| malformed("there is no key in it"))?;
        let provider = Arc::new(suites());
        let fingerprint = Fingerprint::of(&certificate);
        let credentials = CertifiedKey::from_der(vec![certificate], key, &provider)
            .map_err(|source| Error::Tls { path: path.clone(), source })?;
        Ok(Self { path, fingerprint, credentials: Arc::new(credentials), provider })
    }

    /// What a client shows and offers: this identity, and one protocol.
    pub(crate) fn client_configuration(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
        protocol: &[u8],
    ) -> Result<Arc<ClientConfig>, Error> {
        let mut configuration = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| Error::Tls { path: self.path.clone(), source })?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.resolver());
        configuration.alpn_protocols = vec![protocol.to_vec()];
        configuration.resumption = Resumption::disabled();
        configuration.enable_sni = false;
        configuration.enable_early_data = false;
        Ok(Arc::new(configuration))
    }

    /// What a server shows and demands: this identity, a client's certificate
    /// that `verifier` accepts, and one protocol.
    pub(crate) fn server_configuration(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
        protocol: &[u8],
    ) -> Result<Arc<ServerConfig>, Error> {
        let mut configuration = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| Error::Tls { path: self.path.clone(), source })?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.resolver());
        configuration.alpn_protocols = vec![protocol.to_vec()];
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        configuration.send_tls13_tickets = 0;
        configuration.max_early_data_size = 0;
        Ok(Arc::new(configuration))
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.credentials)))
    }

    /// The same identity over other cipher suites.
    #[cfg(test)]
    pub(crate) fn with_provider(mut self, provider: CryptoProvider) -> Self {
        self.provider = Arc::new(provider);
        self
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("path", &self.path)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// The cipher suites of failback: AES-128-GCM, which is the fastest where the
/// processor has AES; ChaCha20 for machines that have not.
pub(crate) fn suites() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..provider::default_provider()
    }
}

fn generate() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = rcgen::CertificateParams::new(vec![SUBJECT.to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, SUBJECT);
    let certificate = parameters.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}
