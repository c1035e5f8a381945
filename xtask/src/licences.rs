//! The licences of the crates in image and harness: those that go with this project's, and
//! packages of crates.io only. Cargo's own record says so, offline.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::{build, paths};

/// Licences that permit use in a program under MIT or Apache-2.0.
const PERMITTED: [&str; 7] =
    ["0BSD", "Apache-2.0", "BSD-2-Clause", "MIT", "Unicode-3.0", "Unlicense", "Zlib"];

/// Where packages of others come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the packages of the workspace and of the conformance guests.
///
/// # Errors
/// If there is one of another licence or from elsewhere.
pub fn check() -> Result<()> {
    let mut faults = Vec::new();
    for manifest in ["Cargo.toml", build::GUESTS_MANIFEST] {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path", manifest])
            .current_dir(paths::root())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        ensure!(output.status.success(), "cargo metadata failed for {manifest}");
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().context("no packages")?;
        faults.extend(packages.iter().filter_map(fault));
    }
    ensure!(faults.is_empty(), "packages that may not be used:\n{}", faults.join("\n"));
    Ok(())
}

/// The objection to a package of others.
fn fault(package: &Value) -> Option<String> {
    let source = package["source"].as_str()?;
    let name = format!("{} {}", package["name"], package["version"]);
    if source != REGISTRY {
        return Some(format!("{name} is from {source}"));
    }
    let licence = package["license"].as_str().unwrap_or_default();
    (!is_permitted(licence)).then(|| format!("{name} has the licence {licence:?}"))
}

fn is_permitted(licence: &str) -> bool {
    let permits = |name: &str| PERMITTED.contains(&name);
    Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|wanted| wanted.license.id().is_some_and(|id| permits(id.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_choice_needs_one_licence_that_is_permitted_and_a_sum_all() {
        assert!(is_permitted("MIT OR LGPL-2.1-or-later"));
        assert!(is_permitted("Apache-2.0/MIT"));
        assert!(is_permitted("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_permitted("MIT AND GPL-2.0-only"));
        assert!(!is_permitted("GPL-3.0-only"));
        assert!(!is_permitted(""));
    }

    #[test]
    fn packages_are_from_the_registry() {
        let package = |source: Value| json!({"name": "a", "source": source, "license": "MIT"});
        assert_eq!(fault(&package(Value::Null)), None, "of this workspace");
        assert_eq!(fault(&package(json!(REGISTRY))), None);
        assert!(fault(&package(json!("git+https://example.org/a"))).is_some());
    }
}
