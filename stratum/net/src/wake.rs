//! Wakes a task from another place of its own thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A call to one task. Called before the task listens, it is heard then; called many times, once.
#[derive(Debug, Default)]
pub struct Wake {
    called: Cell<bool>,
    listener: RefCell<Option<Waker>>,
}

impl Wake {
    /// Calls.
    pub fn call(&self) {
        if self.called.replace(true) {
            return;
        }
        if let Some(listener) = &*self.listener.borrow() {
            listener.wake_by_ref();
        }
    }

    /// Until it is called.
    pub async fn called(&self) {
        poll_fn(|context| self.poll_called(context)).await;
    }

    /// Whether it was called since the last time. If not, the task is woken when it is: the one that asked last.
    pub fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.called.take() {
            return Poll::Ready(());
        }
        let mut listener = self.listener.borrow_mut();
        match &mut *listener {
            Some(known) => known.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;

    #[tokio::test(flavor = "current_thread")]
    async fn a_call_is_heard_once_whether_it_came_before_or_while_the_task_listens() {
        let wake = Rc::new(Wake::default());
        wake.call();
        wake.call();
        wake.called().await;
        timeout(Duration::from_millis(10), wake.called()).await.expect_err("nobody has called again");
        let caller = wake.clone();
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                let calling = spawn_local(async move {
                    tokio::task::yield_now().await;
                    caller.call();
                });
                wake.called().await;
                calling.await.unwrap();
            })
            .await;
    }
}
