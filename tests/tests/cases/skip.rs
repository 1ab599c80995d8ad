// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trials that this machine cannot run: each says why.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Completion, Failed, Trial};

static REASONS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// What a trial ends with: it passed, or why it could not be tried.
pub enum Done {
    /// It passed.
    Passed,
    /// It could not be tried.
    Skipped(String),
}

/// A trial; a panic or an `Err` is its failure.
pub fn trial(name: impl Into<String>, run: impl FnOnce() -> Result<Done, String> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match run() {
        Ok(Done::Passed) => Ok(Completion::Completed),
        Ok(Done::Skipped(reason)) => {
            *REASONS.lock().unwrap_or_else(PoisonError::into_inner).entry(reason.clone()).or_insert(0) += 1;
            Ok(Completion::ignored_with(reason))
        }
        Err(message) => Err(Failed::from(message)),
    })
}

/// A trial that can always be tried.
pub fn always(name: impl Into<String>, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    trial(name, move || run().map(|()| Done::Passed))
}

/// A trial that this build cannot try, and what for.
pub fn never(name: impl Into<String>, reason: &'static str) -> Trial {
    trial(name, move || Ok(Done::Skipped(reason.to_owned())))
}

/// Says what was not tried because this build lacks it.
#[cfg(not(feature = "mlir"))]
pub fn not_listed(count: usize, reason: &str) {
    *REASONS.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{reason} (not listed)")).or_insert(0) += count;
}

/// Prints the reasons with how many trials each one cost.
pub fn print() {
    for (reason, count) in REASONS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("skipped: {reason}: {count}");
    }
}
