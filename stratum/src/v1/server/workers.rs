//! Who may submit on a connection: workers of one payee.

use super::settings::Users;
use crate::payee::{Payee, PayeeError, USER_BYTES_MAX, WorkerName};
use bitcoin::ScriptBuf;
use std::sync::Arc;

/// Workers that one connection may authorize.
pub const WORKERS_MAX: usize = 1_024;

/// Why a user is not authorized: a sentence for the operator of the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "user name must be an account of the pool, of 1 to {USER_BYTES_MAX} bytes, optionally followed by .worker"
    )]
    NoAccount,
    #[error("{0}")]
    Payee(#[from] PayeeError),
    #[error("this connection mines to another address already: open a connection for each address")]
    OtherPayee,
    #[error("this connection has {0} workers already: open another connection")]
    TooMany(usize),
}

/// User names as they were authorized, sorted; all of one payee.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_user: Vec<(Box<str>, Arc<Payee>)>,
}

impl Workers {
    /// Lets a user in. The same name again changes nothing.
    pub(super) fn authorize(&mut self, user: &str, users: Users, max: usize) -> Result<(), Refusal> {
        let Err(place) = self.position(user.as_bytes()) else { return Ok(()) };
        let payee = match users {
            Users::Payees(network) => Payee::parse(user, network)?,
            Users::Anyone => Payee::new(ScriptBuf::new(), WorkerName::escaped(user)),
            Users::Accounts => account(user)?,
        };
        if self.any().is_some_and(|first| first.script != payee.script) {
            return Err(Refusal::OtherPayee);
        }
        if self.by_user.len() >= max {
            return Err(Refusal::TooMany(self.by_user.len()));
        }
        self.by_user.reserve_exact(1);
        self.by_user.insert(place, (user.into(), Arc::new(payee)));
        Ok(())
    }

    /// The payee that a submit's user stands for.
    pub(super) fn find(&self, user: &[u8]) -> Option<&Arc<Payee>> {
        self.position(user).ok().map(|at| &self.by_user[at].1)
    }

    /// One of the workers; all have the same payee.
    pub(super) fn any(&self) -> Option<&Arc<Payee>> {
        self.by_user.first().map(|(_, payee)| payee)
    }

    fn position(&self, user: &[u8]) -> Result<usize, usize> {
        self.by_user.binary_search_by(|(name, _)| name.as_bytes().cmp(user))
    }
}

/// The account of a pool upstream.
fn account(user: &str) -> Result<Payee, Refusal> {
    let (account, worker) = match user.find(['.', '_', '/']) {
        Some(end) => (&user[..end], &user[end + 1..]),
        None => (user, ""),
    };
    if account.is_empty() || user.len() > USER_BYTES_MAX {
        return Err(Refusal::NoAccount);
    }
    Ok(Payee::new(ScriptBuf::from_bytes(account.as_bytes().to_vec()), WorkerName::escaped(worker)))
}
