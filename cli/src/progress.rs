// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What long work says on stderr: the stage, how many nodes, how long.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A stage later than this is worth a line of its own.
const WORTH_SAYING: Duration = Duration::from_millis(500);

/// Shows stages on a terminal as they run, and elsewhere those that took long.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    stage: Option<(String, Instant)>,
}

impl Progress {
    /// Starts; nothing is shown when `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar, quiet, stage: None }
    }
    /// Begins a stage.
    pub fn stage(&mut self, what: impl Into<String>) {
        self.end();
        let what = what.into();
        if let Some(bar) = &self.bar {
            bar.set_message(what.clone());
            bar.reset_elapsed();
        }
        self.stage = Some((what, Instant::now()));
    }
    /// Ends the stage.
    pub fn end(&mut self) {
        if let Some((what, start)) = self.stage.take()
            && start.elapsed() > WORTH_SAYING
            && !self.quiet
        {
            let line = format!("{what}: {:.1} s", start.elapsed().as_secs_f64());
            match &self.bar {
                Some(bar) => bar.println(line),
                None => eprintln!("{line}"),
            }
        }
    }
    /// Says one line.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if !self.quiet => eprintln!("{line}"),
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
