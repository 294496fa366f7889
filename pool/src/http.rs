//! /health and /metrics, on loopback.

use crate::health::Health;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(health_report))
        .route("/metrics", get(metrics_text))
        .with_state(Shared { health, metrics });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 while miners have work that pays; 503 with the reasons otherwise.
async fn health_report(State(shared): State<Shared>) -> impl IntoResponse {
    let report = shared.health.report(std::time::Instant::now());
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report))
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    shared.health.export(&shared.metrics, std::time::Instant::now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.text())
}
