//! What was counted before, in a file of the repository, and what is to be said of the difference.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Counts, and where they are valid.
#[derive(Debug)]
pub struct Baseline {
    /// Compiler and target: another compiler makes other instructions of the same program.
    pub environment: String,
    /// In the order of the paths.
    pub counts: Vec<Count>,
}

/// The instructions of one round of one path.
#[derive(Debug)]
pub struct Count {
    /// The path's name.
    pub name: String,
    /// The instructions.
    pub each: u64,
}

/// The compiler that is in use here, and what it compiles for.
pub fn environment() -> io::Result<String> {
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(compiler).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{} for {}", version.trim(), env::consts::ARCH))
}

impl Baseline {
    /// Reads the file: the environment in its first line, then a name and a number in each.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut lines = text.lines();
        let environment = lines.next().unwrap_or_default().to_owned();
        let counts = lines.map(|line| {
            let (name, each) = line.split_once(char::is_whitespace)?;
            let each = each.trim().parse().ok()?;
            let name = name.to_owned();
            Some(Count { name, each })
        });
        let counts = counts
            .collect::<Option<_>>()
            .ok_or_else(|| io::Error::other(format!("{} is no baseline", path.display())))?;
        Ok(Self {
            environment,
            counts,
        })
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("{}\n", self.environment);
        for Count { name, each } in &self.counts {
            let _ = writeln!(text, "{name:<24} {each:>12}");
        }
        print!("{text}");
        fs::write(path, text)
    }

    fn each(&self, name: &str) -> Option<u64> {
        let count = self.counts.iter().find(|count| count.name == name)?;
        Some(count.each)
    }
}

/// Prints the difference; false if a path takes more than it may, or if the baseline isn't one of these paths.
pub fn compare(former: &Baseline, now: &Baseline) -> bool {
    if former.environment != now.environment {
        println!(
            "NOT COMPARED: the baseline was counted with {}, this is {}.\n\
             Count a commit that is known to be good with `make instructions-baseline`, and commit what it writes.",
            former.environment, now.environment
        );
    }
    let comparable = former.environment == now.environment;
    let mut good = true;
    let mut outdated = false;
    for Count { name, each } in &now.counts {
        let Some(before) = former.each(name) else {
            println!("{name:<24} {each:>12}  not in the baseline");
            good = false;
            continue;
        };
        let change = percent(before, *each);
        let remark = match change {
            _ if !comparable => "",
            MORE.. => {
                good = false;
                "TOO MANY"
            }
            ..=LESS => {
                outdated = true;
                "fewer than before"
            }
            _ => "",
        };
        println!("{name:<24} {each:>12} {change:>+7.1} %  {remark}");
    }
    for Count { name, .. } in &former.counts {
        if now.each(name).is_none() {
            println!("{name:<24} in the baseline only");
            good = false;
        }
    }
    if !good || outdated {
        println!(
            "`make instructions-baseline` writes these as the new baseline; commit it with what brought the change."
        );
    }
    good
}

fn percent(before: u64, now: u64) -> f64 {
    // Exact up to 2^53 instructions.
    (now as f64 / before as f64 - 1.0) * 100.0
}

/// From here on a change is a fault: counts of one program differ by less than 1 %, on a loaded machine, too.
const MORE: f64 = 3.0;

/// Down to here a baseline may age; below, it would hide a step back to it.
const LESS: f64 = -3.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(environment: &str, each: &[(&str, u64)]) -> Baseline {
        let counts = each.iter().map(|(name, each)| Count {
            name: (*name).to_owned(),
            each: *each,
        });
        Baseline {
            environment: environment.to_owned(),
            counts: counts.collect(),
        }
    }

    #[test]
    fn a_path_that_takes_more_than_three_percent_more_fails() {
        let former = counted("rustc", &[("login", 10_000)]);
        for (each, good) in [(10_000, true), (10_290, true), (10_301, false)] {
            assert_eq!(
                compare(&former, &counted("rustc", &[("login", each)])),
                good
            );
        }
    }

    #[test]
    fn a_path_that_takes_less_passes() {
        let former = counted("rustc", &[("login", 10_000)]);
        assert!(compare(&former, &counted("rustc", &[("login", 5_000)])));
    }

    #[test]
    fn counts_of_another_compiler_are_not_compared() {
        let former = counted("rustc 1", &[("login", 10_000)]);
        assert!(compare(&former, &counted("rustc 2", &[("login", 20_000)])));
    }

    #[test]
    fn a_path_that_is_only_on_one_side_fails() {
        let one = counted("rustc", &[("login", 1)]);
        let both = counted("rustc", &[("login", 1), ("reply", 1)]);
        assert!(!compare(&one, &both));
        assert!(!compare(&both, &one));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("baseline");
        let written = counted("rustc 1.2.3 for x86_64", &[("login", 1), ("reply", 23)]);
        written.write(&file).expect("a file");
        let read = Baseline::read(&file).expect("a baseline");
        assert_eq!(read.environment, written.environment);
        assert!(compare(&written, &read));
    }
}
