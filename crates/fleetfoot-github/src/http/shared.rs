//! What connections of one process share by their credential, over whatever clients they go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::admin::Identity;
use crate::budget::Budget;
use crate::error::Result;

/// Budgets and tokens by credential. Cheap to clone; clones are one. What is given to several clients (one goes
/// through a proxy, another trusts a further authority) holds for all of them: a limit that GitHub told one of them is
/// a limit of the credential.
#[derive(Clone, Default)]
pub struct Shared {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    budgets: Mutex<Vec<(String, Weak<Budget>)>>,
    identities: Mutex<BTreeMap<String, Weak<Identity>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The budget of a credential, shared by all connections that use it.
    pub(crate) fn budget(&self, credential: &str) -> Arc<Budget> {
        let mut budgets = self.inner.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|(_, budget)| budget.strong_count() > 0);
        let known = budgets.iter().find(|(key, _)| key == credential);
        if let Some(budget) = known.and_then(|(_, budget)| budget.upgrade()) {
            return budget;
        }
        let budget = Arc::new(Budget::default());
        budgets.push((credential.to_owned(), Arc::downgrade(&budget)));
        budget
    }

    /// The identity that this names, shared by all connections that have it.
    pub(crate) fn identity(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Identity>,
    ) -> Result<Arc<Identity>> {
        let mut identities = self.inner.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = identities.get(name).and_then(Weak::upgrade) {
            return Ok(identity);
        }
        identities.retain(|_, identity| identity.strong_count() > 0);
        let identity = Arc::new(make()?);
        identities.insert(name.to_owned(), Arc::downgrade(&identity));
        Ok(identity)
    }
}
