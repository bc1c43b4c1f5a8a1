//! The streaming server: a health page, while a subscription to Redis is open.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use super::application::{Application, Problem};
use super::web::{answer, listen};

pub async fn serve() -> Result<(), Problem> {
    // Node does not care for RAILS_ENV.
    let application = Application::connect().await?;
    let redis = Arc::new(tokio::sync::Mutex::new(application.redis().await?));
    let port = std::env::var("PORT").unwrap_or_else(|_| "4000".into());
    listen(&application, &port, move |request| {
        let redis = redis.clone();
        async move {
            let health = request.uri().path() == "/api/v1/streaming/health";
            let pong = redis::cmd("PING").query_async::<String>(&mut *redis.lock().await).await;
            let response: Response<Full<Bytes>> = match (health, pong) {
                (true, Ok(_)) => answer(StatusCode::OK, "text/plain", "OK"),
                (true, Err(_)) => answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "Redis"),
                (false, _) => {
                    answer(StatusCode::NOT_FOUND, "application/json", "{\"error\":\"Not found\"}")
                }
            };
            response
        }
    })
    .await
}
