//! This node's certificate for TLS: self-signed, with its libp2p key and that key's signature inside.
//!
//! It is what libp2p's own code makes but for its first day. That code says 1975, and a machine whose
//! clock has not been set since it was switched on believes in 1970: to it the certificates of all others
//! are invalid, and with them every handshake. Nothing here depends on the time of day. What others
//! show is judged by libp2p's code alone.

use libp2p::identity::Keypair;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::NetError;

/// The extension that libp2p keeps a peer's key in, assigned by IANA to the libp2p project
/// (specification of TLS, "libp2p Public Key Extension").
const KEY_EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

/// What the peer's key signs, before the key of the certificate (same specification).
const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";

/// The years between which the certificate is valid, from the first day of each. No clock is older; the
/// end is that of libp2p's own certificates.
const VALID_YEARS: (i32, i32) = (1900, 4096);

/// Makes a certificate and its private key, both of them for this process only.
///
/// # Errors
/// [`NetError::Transport`] when there is no randomness to be had, or `identity` cannot sign.
pub(super) fn generate(
    identity: &Keypair,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), NetError> {
    let failed = |error: &dyn std::error::Error| NetError::Transport(error.to_string());
    let own = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))?;
    let signed = [SIGNED_PREFIX, &own.public_key_der()].concat();
    let signature = identity.sign(&signed).map_err(|error| failed(&error))?;
    let content = yasna::encode_der(&(identity.public().encode_protobuf(), signature));
    let mut extension = CustomExtension::from_oid_content(&KEY_EXTENSION, content);
    extension.set_criticality(true);

    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(VALID_YEARS.0, 1, 1);
    params.not_after = date_time_ymd(VALID_YEARS.1, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions.push(extension);
    let certificate = params.self_signed(&own).map_err(|error| failed(&error))?;
    let key = PrivatePkcs8KeyDer::from(own.serialize_der());
    Ok((certificate.into(), key.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::tls::certificate;

    use super::*;

    #[test]
    fn libp2p_reads_the_peer_in_it() {
        let identity = Keypair::generate_ed25519();
        let (made, _) = generate(&identity).unwrap();
        let read = certificate::parse(&made).unwrap();
        assert_eq!(read.peer_id(), identity.public().to_peer_id());
    }

    #[test]
    fn it_is_valid_from_1900_on() {
        let (made, _) = generate(&Keypair::generate_ed25519()).unwrap();
        // The two dates as DER writes them: GeneralizedTime, 15 characters.
        let find = |date: &[u8]| {
            let field = [&[0x18, 15][..], date].concat();
            made.windows(field.len()).position(|it| it == field)
        };
        let (from, to) = (find(b"19000101000000Z"), find(b"40960101000000Z"));
        assert_eq!(from.unwrap() + 17, to.unwrap());
    }
}
