//! The state that all connections of a server share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fault::Fault;
use super::log::Log;
use super::request::Request;
use super::rule::Rule;
use super::store::Store;

/// The store, the log and the rules, each behind its own lock.
#[derive(Debug, Default)]
pub(super) struct State {
    store: Mutex<Store>,
    log: Mutex<Log>,
    rules: Mutex<Vec<Rule>>,
}

impl State {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(super) fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        lock(&self.rules)
    }

    /// Returns the fault of the first rule that matches the request.
    pub(super) fn fault(&self, request: &Request) -> Option<Fault> {
        self.rules().iter_mut().find_map(|rule| rule.fault_for(request.operation, request.place()))
    }
}

/// Locks even if a test's closure panicked meanwhile: the panic must not hide what the test asserts afterwards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
