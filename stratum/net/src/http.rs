//! /health and /metrics, and what else a server has to show.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a server shows of itself.
pub trait Pages: Clone + Send + Sync + 'static {
    /// The answer of /health, as JSON.
    type Report: Serialize;

    /// Whether all is well, and how it is.
    fn health(&self) -> (bool, Self::Report);

    /// The answer of /metrics, in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Serves these and `more` until `stop`.
///
/// # Errors
/// The listener fails.
pub async fn serve<P: Pages>(
    listener: TcpListener,
    pages: P,
    more: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(health::<P>))
        .route("/metrics", get(metrics::<P>))
        .with_state(pages)
        .merge(more);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 while all is well; 503 with the reasons otherwise.
async fn health<P: Pages>(State(pages): State<P>) -> impl IntoResponse {
    let (ok, report) = pages.health();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report))
}

async fn metrics<P: Pages>(State(pages): State<P>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], pages.metrics())
}
