// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask`: the project's own commands. Run without arguments for the list.

mod chips;
mod coverage;
mod gpus;
mod mutate;
mod new_target;
mod newcomers;
mod notice;
mod other_cpus;
mod process;
mod suite;
mod test;

use process::Task;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test [--no-default-features] [FILTER]   build and run all tests; the last line counts them
  bless [FILTER]                          accept what the stage snapshots (and docs/) are now
  tidy                                    check the rules of the house (seconds, no LLVM)
  suite-data [DIR] [--only GLOB]          write the ONNX test suite, by default to tools/.cache/suite
  suite [--target T]... [--bless]         run that suite, by default on host; a case that passed before must pass
        [--sample N]                      only N cases of those, drawn from every family of operators, always the same ones
        [--without KIND] [--last]         without a folder of the suite; nothing is run, the last run's report is taken
  other-cpus [--bless]                    everything for CPUs that are not here, under qemu: the suite, models of PORTWRIGHT_ZOO up to 10 MB,
                                          what vectors save; --bless writes bench/OTHER_CPUS.md and the lists of the suite
  gpus [--bless] [--without KIND] [--last] everything for GPUs that are not here: the suite and models of PORTWRIGHT_ZOO up to 10 MB in the PTX
                                          machine, their code by NVIDIA's assembler; --bless writes bench/GPUS.md and the lists of the suite
  chips [--bless] [--without KIND]        everything for chips whose kernels are source for a vendor's compiler, in headers of ours: the suite, the
        [--only suite|core|models]        core cases at all sizes, models of PORTWRIGHT_ZOO; --bless writes the lists of the suite and tests/models.txt
  coverage                                which lines of ir and frontend their tests run, at least 80 % each
  fuzz [SECONDS] [TARGET]                 hunt for panics, hangs and wrong programs, ten minutes by default; finds become tests
  mutate [--bless]                        delete every barrier, wait and commit of every family of simt kernels; 98 of 100 must be missed;
                                          --bless writes bench/MUTATIONS.md
  new-target NAME                         a folder for a chip whose kernels are C++ for its vendor's compiler (docs/ADDING_A_TARGET.md)
  newcomers                               a copy of this tree with a new target, and a crate outside of it with another: built without LLVM,
                                          and the core cases on both
  fetch-tools [--minimal]                 run ./setup
  notice                                  write the list of crates in NOTICE again

Example: cargo xtask test softmax
";

/// What a command ends with: a sentence for the user, if it failed.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    if let Some(code) = coverage::compile() {
        return code;
    }
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "test" => test::run(&rest),
        "bless" => bless(&rest),
        "tidy" => Task::cargo(["test", "--quiet", "--package", "portwright-tidy"]).args(&rest).run(),
        "suite" => suite::run(&rest),
        "gpus" => gpus::run(&rest),
        "chips" => chips::run(&rest),
        "new-target" => new_target::run(&rest),
        "newcomers" => newcomers::run(&rest),
        "other-cpus" => other_cpus::run(&rest),
        "suite-data" => suite_data(&rest),
        "coverage" => coverage::run(&rest),
        "fuzz" => Task::cargo(["run", "--release", "--quiet", "--package", "portwright-fuzz", "--"]).args(&rest).run(),
        "fetch-tools" => Task::new(root().join("setup")).args(&rest).run(),
        "mutate" => mutate::run(&rest),
        "notice" => notice::write(),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => {
            eprint!("xtask: no command `{other}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

fn bless(rest: &[String]) -> Outcome {
    Task::cargo(["test", "--package", "portwright-tests", "--test", "cases", "--"]).args(rest).env("INSTA_UPDATE", "always").run()
}

fn suite_data(rest: &[String]) -> Outcome {
    let cache = root().join("tools/.cache");
    let python = cache.join("python/bin/python");
    if !python.exists() {
        return Err("no Python in tools/.cache: run ./setup first".to_string());
    }
    let folder_given = rest.first().is_some_and(|first| !first.starts_with("--"));
    let mut task = Task::new(python).arg(root().join("tools/suite_data.py"));
    if !folder_given {
        task = task.arg(cache.join("suite"));
    }
    task.args(rest).run()
}
