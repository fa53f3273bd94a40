//! What a server and its clients prove themselves with under TLS (nbdkit-tls(1)): made for one run, kept in its directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde::{Deserialize, Serialize};

use crate::random::random;

/// The client's name in a file of shared keys.
pub const USER: &str = "layers";

/// Who proves what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Both have the same key: `--tls-psk`.
    #[default]
    SharedKey,
    /// The server has an X.509 certificate: `--tls-certificates`.
    ServerCertificate,
    /// The client needs one as well, and has it: `--tls-verify-peer`.
    BothCertificates,
    /// The client needs one as well, and has none.
    NoClientCertificate,
}

/// Where they lie.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who proves what.
    pub proof: Proof,
    folder: PathBuf,
}

impl Credentials {
    /// New ones, in this directory.
    pub fn make(proof: Proof, directory: &Path) -> io::Result<Credentials> {
        let credentials = Credentials { proof, folder: directory.join("tls") };
        fs::create_dir(&credentials.folder)?;
        match proof {
            Proof::SharedKey => fs::write(credentials.shared_key(), key())?,
            _ => credentials.certify().map_err(io::Error::other)?,
        }
        Ok(credentials)
    }

    /// The server's options.
    pub fn server_arguments(&self) -> Vec<String> {
        let certificates = format!("--tls-certificates={}", self.certificates().display());
        match self.proof {
            Proof::SharedKey => vec![format!("--tls-psk={}", self.shared_key().display())],
            Proof::ServerCertificate => vec![certificates],
            Proof::BothCertificates | Proof::NoClientCertificate => {
                vec![certificates, "--tls-verify-peer".to_owned()]
            }
        }
    }

    /// A file with one line for each key, as gnutls's `psktool` writes it.
    pub fn shared_key(&self) -> PathBuf {
        self.folder.join("keys.psk")
    }

    /// A directory with PEM files of the names that nbdkit and libnbd look for.
    pub fn certificates(&self) -> PathBuf {
        self.folder.clone()
    }

    /// An authority, and what it signs.
    fn certify(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut params = named("layers authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(self.folder.join("ca-cert.pem"), authority.pem())?;
        let client = (self.proof != Proof::NoClientCertificate).then_some("client");
        for who in ["server"].into_iter().chain(client) {
            let key = KeyPair::generate()?;
            let certificate = named(&format!("layers {who}"))?.signed_by(&key, &authority)?;
            fs::write(self.folder.join(format!("{who}-cert.pem")), certificate.pem())?;
            fs::write(self.folder.join(format!("{who}-key.pem")), key.serialize_pem())?;
        }
        Ok(())
    }
}

fn named(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// A name and 32 bytes.
fn key() -> String {
    let word = |_| format!("{:016x}", random());
    format!("{USER}:{}\n", (0..4).map(word).collect::<String>())
}
