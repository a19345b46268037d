//! TLS 1.3 as libp2p speaks it (`/tls/1.0.0`), with the cipher that this CPU is fast at.
//!
//! Owns what is agreed on: TLS 1.3 only, one self-signed certificate from each side that carries
//! its libp2p key, ALPN `libp2p` or the name of a multiplexer. The own certificate is made in
//! [`super::certificate`]; those of others are judged by libp2p's own code alone. It differs from the
//! stock upgrade in three things that the other side cannot be hurt by: the order of the ciphers
//! offered, no session tickets (a resumed session proves no key anew), and no file of keys for
//! debuggers. How bytes are moved is in [`super::record`].

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use libp2p::PeerId;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, sign};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
};

use super::certificate::generate;
use super::record::{Side, TlsStream};
use crate::NetError;

const PROTOCOL: &str = "/tls/1.0.0";
/// What every libp2p peer knows; the multiplexer is agreed on afterwards.
const ALPN: &[u8] = b"libp2p";

/// The multiplexer of [`super::mux`], agreed on in the handshake as libp2p does it for others: the
/// round trip that this would take afterwards is saved, and who does not know the name is not asked.
pub(super) const ALPN_MUX: &[u8] = b"/shoal/mux/1";

/// The upgrade of a connection to TLS.
#[derive(Clone)]
pub(super) struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// An upgrade that proves the identity of `keypair`.
    ///
    /// # Errors
    /// [`NetError::Transport`] when the certificate cannot be made.
    pub(super) fn new(keypair: &Keypair) -> Result<Self, NetError> {
        let failed = |error: &dyn std::error::Error| NetError::Transport(error.to_string());
        let (certificate, key) = generate(keypair)?;
        let key = sign::any_ecdsa_type(&key).map_err(|error| failed(&error))?;
        let own = Arc::new(OwnCertificate(Arc::new(CertifiedKey::new(
            vec![certificate],
            key,
        ))));
        let mut provider = default_provider();
        provider.cipher_suites = cipher_suites(cpu_has_aes());
        let provider = Arc::new(provider);
        let versions = &[&rustls::version::TLS13];
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Libp2pVerifier))
            .with_client_cert_resolver(own.clone());
        client.alpn_protocols = vec![ALPN_MUX.to_vec(), ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(Arc::new(Libp2pVerifier))
            .with_cert_resolver(own);
        server.alpn_protocols = vec![ALPN_MUX.to_vec(), ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// The suites in the order of preference. The server follows the client's order, because only the
/// client knows whether it has AES in hardware.
fn cipher_suites(aes_in_hardware: bool) -> Vec<SupportedCipherSuite> {
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let aes_256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let aes_128 = cipher_suite::TLS13_AES_128_GCM_SHA256;
    if aes_in_hardware {
        vec![aes_128, aes_256, chacha]
    } else {
        vec![chacha, aes_256, aes_128]
    }
}

fn cpu_has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        let server = UnbufferedServerConnection::new(self.server);
        secure(socket, server.map(Side::Server)).boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, TlsStream<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        // The specification forbids a server name; an address is never sent as one.
        let nameless = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let client = UnbufferedClientConnection::new(self.client, nameless);
        secure(socket, client.map(Side::Client)).boxed()
    }
}

/// Shakes hands and tells who the peer has proven to be.
async fn secure<C>(
    socket: C,
    side: Result<Side, rustls::Error>,
) -> io::Result<(PeerId, TlsStream<C>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsStream::handshake(socket, side.map_err(io::Error::other)?).await?;
    let Some([certificate]) = stream.peer_certificates() else {
        return Err(io::Error::other("the peer did not show one certificate"));
    };
    let peer = certificate::parse(certificate)
        .map_err(io::Error::other)?
        .peer_id();
    Ok((peer, stream))
}

/// The certificate of this node, for whoever asks.
#[derive(Debug)]
struct OwnCertificate(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Judges the other side's certificate, on both sides, with libp2p's code: exactly one, valid now,
/// signed by itself, with the peer's key and its signature inside.
#[derive(Debug)]
struct Libp2pVerifier;

impl Libp2pVerifier {
    fn judge(
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !more.is_empty() {
            let error = "libp2p's TLS has exactly one certificate";
            return Err(rustls::Error::General(error.into()));
        }
        certificate::parse(certificate)?;
        Ok(())
    }

    fn judge_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = certificate::parse(certificate)?;
        certificate.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// What libp2p's code can verify, the preferred first.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }

    fn no_tls12() -> rustls::Error {
        rustls::Error::General("libp2p's TLS is TLS 1.3".into())
    }
}

impl ServerCertVerifier for Libp2pVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::judge(certificate, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::judge_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Libp2pVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::judge(certificate, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::judge_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustls::{CipherSuite, NamedGroup};

    use super::*;

    #[test]
    fn the_cipher_that_the_cpu_is_fast_at_comes_first_and_none_is_missing() {
        let order = |aes| {
            cipher_suites(aes)
                .iter()
                .map(SupportedCipherSuite::suite)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(true)[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(order(false)[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!((order(true).len(), order(false).len()), (3, 3));
    }

    #[test]
    fn keys_are_agreed_on_as_the_stock_upgrade_does() {
        let tls = Tls::new(&Keypair::generate_ed25519()).unwrap();
        let groups = &tls.client.crypto_provider().kx_groups;
        assert_eq!(groups[0].name(), NamedGroup::X25519MLKEM768);
    }
}
