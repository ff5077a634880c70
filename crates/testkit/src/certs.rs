//! Certificates for TLS tests: an authority of our own, good servers and bad ones.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// What a server's certificate is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CertKind {
    /// Valid for the server's address and `localhost`, from the trusted authority.
    #[default]
    Good,
    /// Good once, expired in 2021.
    Expired,
    /// Valid, for another host.
    WrongHost,
    /// Right in everything, from an authority that nobody trusts.
    WrongAuthority,
}

/// Where the PEM files of one server are.
#[derive(Clone, Debug)]
pub struct CertFiles {
    /// The authority that clients trust.
    pub ca: PathBuf,
    /// The server's certificate.
    pub server_cert: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate from the same authority.
    pub client_cert: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).expect("self-signed").pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

fn issue(by: &Authority, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    change(&mut params);
    let cert = params.signed_by(&key, &by.issuer).expect("signed");
    (cert.pem(), key.serialize_pem())
}

/// Writes a new authority and certificates for a server at `address` into `dir`.
pub fn write_certs(dir: &Path, kind: CertKind, address: Ipv4Addr) -> CertFiles {
    let trusted = authority("RingFS test authority");
    let stranger = authority("RingFS stranger");
    let by = if kind == CertKind::WrongAuthority { &stranger } else { &trusted };
    let server = issue(by, |params| {
        params.subject_alt_names = if kind == CertKind::WrongHost {
            vec![SanType::DnsName("elsewhere.example".try_into().expect("name"))]
        } else {
            vec![
                SanType::IpAddress(address.into()),
                SanType::DnsName("localhost".try_into().expect("name")),
            ]
        };
        if kind == CertKind::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
    });
    let client =
        issue(&trusted, |params| params.distinguished_name.push(DnType::CommonName, "client"));
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("certificate file");
        path
    };
    CertFiles {
        ca: write("ca.pem", &trusted.pem),
        server_cert: write("server.pem", &server.0),
        server_key: write("server.key", &server.1),
        client_cert: write("client.pem", &client.0),
        client_key: write("client.key", &client.1),
    }
}
