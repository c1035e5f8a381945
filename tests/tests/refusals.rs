//! Machines and configurations that Bulkhead cannot run on: one clear line on the console, no crash.

use std::time::Duration;

use tests::{Guest, Result, Spec, spec, start_for};

const PATIENCE: Duration = Duration::from_secs(60);

fn says(spec: &Spec, text: &str) -> Result<()> {
    start_for(spec, PATIENCE)?.expect_serial(text)
}

#[test]
fn a_cpu_without_amd_v() -> Result<()> {
    says(
        &Spec { cpu: Some("max,-svm".into()), ..spec(Guest::Ipxe)? },
        "this CPU has no hardware virtualisation",
    )
}

#[test]
fn a_cpu_without_nested_paging() -> Result<()> {
    says(&Spec { cpu: Some("max,-npt".into()), ..spec(Guest::Ipxe)? }, "has no nested paging")
}

#[test]
fn no_module() -> Result<()> {
    says(&Spec::default(), "no module to boot")
}

#[test]
fn too_little_memory() -> Result<()> {
    let arguments = ["-m", "64"].map(String::from).to_vec();
    says(&Spec { arguments, ..spec(Guest::Ipxe)? }, "too little memory")
}

#[test]
fn a_broken_configuration() -> Result<()> {
    let config = std::env::temp_dir().join(format!("bulkhead-broken-{}.cfg", std::process::id()));
    std::fs::write(&config, "name = \"guest\"\nmemory = [\n")?;
    let outcome = says(
        &Spec { config: Some(config.clone()), ..spec(Guest::Ipxe)? },
        ".cfg:3: memory: expected a value",
    );
    std::fs::remove_file(config)?;
    outcome
}
