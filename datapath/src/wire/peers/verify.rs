//! Whether the other side of a handshake is who it must be.
//!
//! In: the certificate and the signature of the other side. Out: accepted or
//! not, and the fingerprint that was seen, for the error message. Invariants:
//! the certificate's key signed this very handshake (checked by rustls' own
//! routines for TLS 1.3); an accepted fingerprint is the pinned one, a known
//! one, or, for pairing alone, any. Never: looks at names, dates or issuers;
//! accepts a signature of TLS 1.2.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::KnownPeers;
use crate::wire::identity::{Fingerprint, suites};

/// The certificate that a handshake showed, whether accepted or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<OnceLock<Fingerprint>>);

impl Shown {
    /// Its fingerprint, once it was shown.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.0.get().copied()
    }

    fn note(&self, certificate: &CertificateDer<'_>) -> Fingerprint {
        *self.0.get_or_init(|| Fingerprint::of(certificate))
    }
}

/// Accepts the one server whose certificate has the expected fingerprint.
pub(crate) struct PinnedServer {
    expected: Fingerprint,
    shown: Shown,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedServer {
    pub(crate) fn new(expected: Fingerprint, shown: Shown) -> Self {
        Self { expected, shown, algorithms: suites().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.shown.note(certificate) == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for PinnedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedServer").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Which clients a server lets finish a handshake.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Those among the known peers that may connect.
    Known(KnownPeers),
    /// Anyone who holds the key of the certificate shown: it has yet to prove a
    /// pairing token.
    AnyForPairing,
}

/// Accepts the clients that an [`Admission`] names; a certificate is mandatory.
pub(crate) struct AdmittedClients {
    admission: Admission,
    shown: Shown,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AdmittedClients {
    pub(crate) fn new(admission: Admission, shown: Shown) -> Self {
        Self { admission, shown, algorithms: suites().signature_verification_algorithms }
    }
}

impl ClientCertVerifier for AdmittedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a stranger shall not learn whom this server knows.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let fingerprint = self.shown.note(certificate);
        let admitted = match &self.admission {
            Admission::Known(peers) => peers.client(&fingerprint).is_some(),
            Admission::AnyForPairing => true,
        };
        if admitted {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for AdmittedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmittedClients").field("admission", &self.admission).finish_non_exhaustive()
    }
}
