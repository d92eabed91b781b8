//! A client's stream of bytes, encrypted or not.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long a client may take to let the server say goodbye.
#[cfg(feature = "tls")]
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// What a door reads from and writes to. What was written may wait until it is flushed.
pub(crate) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Calls a method of the stream that there is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Plain($inner) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($inner) => $call,
        }
    };
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The address that the client connected to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// Waits for something to read, without room for it. What is encrypted has to be read to be known.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            // A socket may be called readable that has nothing yet.
            Stream::Plain(stream) => stream.peek(&mut [0]).await.map(drop),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Ok(()),
        }
    }

    /// Whether [`Stream::readable`] waits.
    pub(crate) fn knows_readable(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }

    /// Says that nothing more comes, where the protocol has a word for it.
    pub(crate) async fn say_goodbye(&mut self) {
        #[cfg(feature = "tls")]
        if let Stream::Tls(stream) = self {
            use tokio::io::AsyncWriteExt;
            let _ = tokio::time::timeout(PATIENCE, stream.shutdown()).await;
        }
    }

    /// Sends a last word where that takes no time.
    pub(crate) fn try_say(&self, word: &[u8]) {
        match self {
            Stream::Plain(stream) => drop(stream.try_write(word)),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => {}
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
