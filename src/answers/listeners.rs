//! Developers who listen with `echostr listen`: they answer what nobody else answers, as long as they are connected.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::journal::Filter;

/// Those who listen on this node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many there are: deliveries look at nothing else, as a rule.
    count: AtomicUsize,
    filters: Mutex<Vec<Arc<Filter>>>,
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    listeners: Listeners,
    filter: Arc<Filter>,
}

impl Listeners {
    /// Listens to the events of a filter: by account and type only.
    pub(crate) fn listen(&self, filter: &Filter) -> Listening {
        let filter = Arc::new(filter.clone());
        let mut filters = self.lock();
        filters.push(Arc::clone(&filter));
        self.0.count.store(filters.len(), Ordering::Relaxed);
        drop(filters);
        Listening { listeners: self.clone(), filter }
    }

    /// Whether somebody listens to such events.
    pub(crate) fn want(&self, account: &str, event_type: &str) -> bool {
        self.0.count.load(Ordering::Relaxed) > 0
            && self.lock().iter().any(|filter| filter.may_match(account, event_type))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Filter>>> {
        self.0.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut filters = self.listeners.lock();
        filters.retain(|filter| !Arc::ptr_eq(filter, &self.filter));
        self.listeners.0.count.store(filters.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_listens_no_more() {
        let listeners = Listeners::default();
        let filter = |account: &str, event_type: &str| {
            let mut filter = Filter::default();
            filter.account = Some(account.to_owned()).filter(|account| !account.is_empty());
            filter.event_type = Some(event_type.to_owned()).filter(|event_type| !event_type.is_empty());
            filter
        };
        let want = |account: &str, event_type: &str| listeners.want(account, event_type);
        assert!(!want("mp/shop", "mp.message.text"));
        let shop = listeners.listen(&filter("mp/shop", "mp.message.*"));
        assert!(want("mp/shop", "mp.message.text") && !want("mp/shop", "mp.event.click"));
        assert!(!want("mp/news", "mp.message.text"));
        let all = listeners.listen(&filter("", ""));
        drop(shop);
        assert!(want("mp/news", "mp.message.text"));
        drop(all);
        assert!(!want("mp/shop", "mp.message.text"));
    }
}
