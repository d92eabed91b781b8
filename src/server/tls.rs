//! TLS: a certificate and its key from PEM files, which can be read again while connections go on. In a build without the
//! feature `tls` nothing is encrypted, and who asks for it is told so.

use std::fmt;
use std::io;
use std::path::PathBuf;

#[cfg(feature = "tls")]
pub(crate) use encrypted::Tls;
#[cfg(not(feature = "tls"))]
pub(crate) use plain::Tls;

/// The files that make a server speak TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and after it those that vouch for it, in PEM.
    pub cert: PathBuf,
    /// The certificate's private key, in PEM.
    pub key: PathBuf,
}

/// Why one of the files cannot be used.
#[derive(Debug)]
pub struct TlsError {
    flag: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl TlsError {
    /// What is wrong with the file: what the system said, or `InvalidData`.
    pub fn source(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsError { flag, path, source } = self;
        write!(f, "cannot use {} ({flag}): {source}", path.display())
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> io::Error {
        io::Error::new(error.source.kind(), error.to_string())
    }
}

const CERT: &str = "--tls-cert";

#[cfg(feature = "tls")]
mod encrypted {
    use std::fs;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use parking_lot::RwLock;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

    use super::{CERT, TlsError, TlsFiles};
    use crate::server::listen::Door;
    use crate::server::stream::Stream;

    const KEY: &str = "--tls-key";

    /// The certificate and its key, as they are now.
    pub(crate) struct Tls {
        files: TlsFiles,
        now: RwLock<Ready>,
    }

    /// What was read of the files.
    #[derive(Clone)]
    pub(crate) struct Ready {
        http: Arc<ServerConfig>,
        resp: Arc<ServerConfig>,
    }

    impl Tls {
        /// # Errors
        /// [`TlsError`].
        pub(crate) fn new(files: TlsFiles) -> Result<Tls, TlsError> {
            let now = RwLock::new(read(&files)?);
            Ok(Tls { files, now })
        }

        /// Reads the files again, for [`Tls::renew`].
        ///
        /// # Errors
        /// [`TlsError`].
        pub(crate) fn read_again(&self) -> Result<Ready, TlsError> {
            read(&self.files)
        }

        /// New connections are encrypted with this; those that there are stay.
        pub(crate) fn renew(&self, ready: Ready) {
            *self.now.write() = ready;
        }

        /// Shakes hands with a client.
        ///
        /// # Errors
        /// What the client, or the network, did wrong.
        pub(crate) async fn accept(&self, door: Door, stream: TcpStream) -> io::Result<Stream> {
            let config = match door {
                Door::Http => Arc::clone(&self.now.read().http),
                Door::Resp => Arc::clone(&self.now.read().resp),
            };
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }

    fn read(files: &TlsFiles) -> Result<Ready, TlsError> {
        let text = content(CERT, &files.cert)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|error| malformed(CERT, &files.cert, &error))?;
        if chain.is_empty() {
            return Err(unusable(
                CERT,
                &files.cert,
                "it holds no certificate in PEM",
            ));
        }
        let text = content(KEY, &files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            PemError::NoItemsFound => unusable(KEY, &files.key, "it holds no private key in PEM"),
            error => malformed(KEY, &files.key, &error),
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(CERT, &files.cert, error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    let why = format!("it is not the key of {}", files.cert.display());
                    unusable(KEY, &files.key, why)
                }
                Error::InvalidCertificate(why) => unusable(
                    CERT,
                    &files.cert,
                    format!("its certificate cannot be used: {why:?}"),
                ),
                error => unusable(KEY, &files.key, error.to_string()),
            })?;
        let mut http = config.clone();
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Ready {
            http: Arc::new(http),
            resp: Arc::new(config),
        })
    }

    fn content(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
        fs::read(path).map_err(|source| TlsError {
            flag,
            path: path.to_owned(),
            source,
        })
    }

    fn unusable(flag: &'static str, path: &Path, why: impl Into<String>) -> TlsError {
        TlsError {
            flag,
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, why.into()),
        }
    }

    fn malformed(flag: &'static str, path: &Path, error: &PemError) -> TlsError {
        unusable(flag, path, format!("it is no PEM file: {error}"))
    }
}

#[cfg(not(feature = "tls"))]
mod plain {
    use std::io;

    use tokio::net::TcpStream;

    use super::{CERT, TlsError, TlsFiles};
    use crate::server::listen::Door;
    use crate::server::stream::Stream;

    /// There is none of it.
    pub(crate) enum Tls {}

    pub(crate) enum Ready {}

    impl Tls {
        pub(crate) fn new(files: TlsFiles) -> Result<Tls, TlsError> {
            let why = "this build has no TLS: it takes the cargo feature tls";
            Err(TlsError {
                flag: CERT,
                path: files.cert,
                source: io::Error::new(io::ErrorKind::Unsupported, why),
            })
        }

        pub(crate) fn read_again(&self) -> Result<Ready, TlsError> {
            match *self {}
        }

        pub(crate) fn renew(&self, _: Ready) {
            match *self {}
        }

        pub(crate) async fn accept(&self, _: Door, _: TcpStream) -> io::Result<Stream> {
            match *self {}
        }
    }
}
