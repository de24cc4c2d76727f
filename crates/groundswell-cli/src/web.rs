//! The HTTP interface and the dashboard of a node, as `up` and `demo` serve them: where it listens, and what it is told
//! of the node.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use groundswell_web::{App, Config, Server, Subject, lakes::Lakes};
use tokio::net::TcpListener;

use crate::error::ToolError;

/// The file in the data directory with the port of the last run, so that a page which was open finds the node again.
const PORT_FILE: &str = "http-port";

/// Where to listen, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// Port 0 is the last run's, or a free one.
    pub(crate) addr: SocketAddr,
    /// The names under which other computers may come in; none for this device alone.
    pub(crate) public: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), public: Vec::new() }
    }
}

/// An interface that is served. It ends in order by [`Web::shutdown`], and otherwise when it is dropped.
pub(crate) struct Web {
    app: App,
    server: Server,
}

impl Web {
    /// Serves the interface of a node whose data directory this is.
    pub(crate) async fn start(
        subject: Subject,
        lakes: Option<Arc<dyn Lakes>>,
        dir: &Path,
        listen: &Listen,
    ) -> Result<Self, ToolError> {
        let ip = listen.addr.ip();
        if !ip.is_loopback() && listen.public.is_empty() {
            return Err(ToolError::NotLoopback(listen.addr));
        }
        let mut config = Config::new(dir);
        if let Some(lakes) = lakes {
            config = config.lakes(lakes);
        }
        if !listen.public.is_empty() {
            // The links that are printed name the address.
            let own = (!ip.is_unspecified()).then(|| host_of(ip));
            config = config.for_other_computers(listen.public.iter().cloned().chain(own));
        }
        let app = App::start(subject, config).await?;
        let listener =
            bind(dir, listen.addr).await.map_err(|source| ToolError::HttpListen { addr: listen.addr, source })?;
        let server = app.serve(listener)?;
        remember(dir, server.local_addr().port());
        Ok(Self { app, server })
    }

    /// The application, for claims that are answered beside it.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Where it is, as a browser on this device says it.
    pub(crate) fn address(&self) -> String {
        let addr = self.server.local_addr();
        let host = if addr.ip().is_unspecified() { "localhost".to_owned() } else { host_of(addr.ip()) };
        format!("http://{host}:{}", addr.port())
    }

    /// A fresh link that opens the dashboard once, within five minutes: for whoever has it, or for one account.
    pub(crate) fn link(&self, account: Option<u32>) -> String {
        account.map_or_else(|| self.server.open_link(), |account| self.server.open_link_for(account))
    }

    /// Ends all streams with their reason, and the server, within 5 seconds. What is cut off then is logged.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::warn!(%error, "the HTTP interface");
        }
    }
}

/// An address as it stands in a URL.
fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Binds the address; where it leaves the port open, that of the last run if it is free.
async fn bind(dir: &Path, addr: SocketAddr) -> io::Result<TcpListener> {
    if addr.port() == 0
        && let Some(port) = last_port(dir)
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(addr.ip(), port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(addr).await
}

fn last_port(dir: &Path) -> Option<u16> {
    fs::read_to_string(dir.join(PORT_FILE)).ok()?.trim().parse().ok()
}

fn remember(dir: &Path, port: u16) {
    if last_port(dir) != Some(port)
        && let Err(error) = fs::write(dir.join(PORT_FILE), format!("{port}\n"))
    {
        // The next run takes another port, and works as well.
        tracing::debug!(%error, "the port is not remembered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_taken_again_if_it_is_free() {
        let temp = tempfile::tempdir().unwrap();
        let loopback = Listen::default().addr;
        let first = bind(temp.path(), loopback).await.unwrap();
        let port = first.local_addr().unwrap().port();
        remember(temp.path(), port);
        let other = bind(temp.path(), loopback).await.unwrap();
        assert_ne!(other.local_addr().unwrap().port(), port, "it is not free");
        drop(first);
        assert_eq!(bind(temp.path(), loopback).await.unwrap().local_addr().unwrap().port(), port);
        fs::write(temp.path().join(PORT_FILE), "no port").unwrap();
        assert_ne!(bind(temp.path(), loopback).await.unwrap().local_addr().unwrap().port(), 0);
    }

    #[test]
    fn an_address_stands_in_brackets_where_it_has_colons() {
        assert_eq!(host_of("127.0.0.1".parse().unwrap()), "127.0.0.1");
        assert_eq!(host_of("::1".parse().unwrap()), "[::1]");
    }
}
