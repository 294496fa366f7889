//! Questions that take time, beside the runtime that has miners to accept, and few of them at once.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Questions that are answered at once; each may take tenths of a second of a processor.
const AT_ONCE: usize = 4;

/// Lets so many through; a handle.
#[derive(Debug, Clone)]
pub struct Aside(Arc<Semaphore>);

/// Too many have asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Aside {
    /// Asks on a thread of its own.
    ///
    /// # Errors
    /// [`Busy`] if others are being answered: nobody waits in line.
    pub async fn run<T: Send + 'static>(&self, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let place = self.0.clone().try_acquire_owned().map_err(|_| Busy)?;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask();
            drop(place);
            answer
        });
        asked.await.map_err(|_| Busy)
    }
}

impl IntoResponse for Busy {
    fn into_response(self) -> Response {
        let headers = [(header::RETRY_AFTER, "1"), (header::CACHE_CONTROL, "no-cache")];
        (StatusCode::SERVICE_UNAVAILABLE, headers, "others are being answered: ask again\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_is_told_so() {
        let aside = Aside::default();
        let (release, wait) = sync_channel::<()>(1);
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let held: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (aside, wait) = (aside.clone(), wait.clone());
                tokio::spawn(async move { aside.run(move || wait.lock().unwrap().recv()).await })
            })
            .collect();
        while aside.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside.run(|| 1).await, Err(Busy));
        drop(release);
        for one in held {
            assert!(one.await.unwrap().unwrap().is_err());
        }
        assert_eq!(aside.run(|| 1).await, Ok(1));
    }
}
