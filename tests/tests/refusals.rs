//! Machines and configurations that Bulkhead cannot run on: one clear line on the console, no
//! crash.

use std::time::Duration;

use tests::{Backend, Guest, Result, Spec, on_vmx, spec, start_for};

const PATIENCE: Duration = Duration::from_secs(180);

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

on_vmx! { a_cpu_without_ept }

/// Penryn was the last family that had VT-x without EPT.
fn a_cpu_without_ept(backend: Backend) -> Result<()> {
    says(
        &Spec { backend, cpu: Some("core2_penryn_t9600".into()), ..spec(Guest::Ipxe)? },
        "this CPU's VT-x lacks extended page tables (EPT), which Bulkhead needs",
    )
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
        ".cfg:3:1: memory: expected a value",
    );
    std::fs::remove_file(config)?;
    outcome
}
