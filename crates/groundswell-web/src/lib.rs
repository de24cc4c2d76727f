//! The local HTTP interface of a node, and its dashboard: an axum application.
//!
//! `openapi.json` describes it, docs/http.md shows it with curl. [`App::serve`] runs it on a listener, with the limits
//! and time-outs of [`limits`]; [`App::router`] gives it to a server of the user's own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use groundswell_web::{App, Config};
//!
//! let machine = groundswell::Machine::new("data").await?;
//! let app = App::start(machine.clone(), Config::new("data")).await?;
//! let server = app.serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?)?;
//! println!("open {}", server.open_link());
//! // … and in the end:
//! machine.shutdown().await?;
//! server.shutdown().await?;
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod app;
mod body;
mod caller;
mod claims;
mod dashboard;
mod events;
mod io;
pub mod lakes;
pub mod limits;
mod places;
mod problem;
mod query;
mod routes;
mod sampler;
mod security;
mod server;
mod sse;
mod subject;
mod token;
mod topics;
mod views;

pub use app::{App, AppError, Config};
pub use claims::AskedClaim;
pub use server::{ServeError, Server, ShutdownError};
pub use subject::Subject;
pub use token::TokenError;

/// The OpenAPI document of the interface.
pub const OPENAPI: &str = include_str!("../openapi.json");
