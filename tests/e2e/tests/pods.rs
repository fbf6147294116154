//! A process in the control group of a pod of Kubernetes: every route names the pod.

use anyhow::{Context as _, Result, ensure};
use procscope_tests_e2e::{Stack, alone, binary, curl};
use procscope_tests_kernel::{Program, group::Folder, wait_until};
use serde_json::Value;

#[test]
fn a_process_in_the_control_group_of_a_pod_shows_its_pod_on_every_route() -> Result<()> {
    const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let _alone = alone();
    let stack = Stack::start()?;
    let uid = format!("{:08x}-7d3e-4f60-9a1b-0c2d3e4f5a6b", std::process::id());
    // As a kubelet with the systemd driver and containerd make them.
    let pod = Folder::new(&format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_")))?;
    let container = pod.within(&format!("cri-containerd-{CONTAINER}.scope"))?;
    let folder = container.path().display();
    let program = Program::start(
        &binary("procscope-tests-kernel")?.display().to_string(),
        &format!("in-group {folder} burn 10000 1"),
    )?;
    let pid = program.pid();

    let mut found = Value::Null;
    wait_until("the pod is in the top of pods", 60, || {
        let top = stack.json("top --once --by pod --limit 1000").unwrap_or_default();
        let rows = top["processes"].as_array().cloned().unwrap_or_default();
        found = rows
            .into_iter()
            .find(|row| row["name"] == *uid)
            .unwrap_or_default();
        found["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 1.0)
    })
    .with_context(|| found.to_string())?;
    let table = String::from_utf8(stack.cli("top --once --by pod --limit 1000")?.stdout)?;
    ensure!(
        table.lines().any(|line| line.contains(&uid)) && table.contains("(no pod)"),
        "{table}"
    );
    let page = curl(&[&format!(
        "{}/api/v1/processes/top?group_by=pod&limit=1000",
        stack.http()
    )])?;
    let page: Value = serde_json::from_str(&page)?;
    let row = |rows: &Value, key: &str, value: &Value| -> Result<Value> {
        let found = rows
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row[key] == *value);
        found.cloned().with_context(|| format!("{key} {value}: {rows}"))
    };
    ensure!(page["group_by"] == "pod", "{page}");
    row(&page["processes"], "name", &uid.as_str().into())?;
    let top = stack.json("top --once --limit 1000 --since 10m")?;
    let process = row(&top["processes"], "pid", &pid.into())?;
    ensure!(
        process["pod_uid"] == *uid && process["container_id"] == CONTAINER,
        "{process}"
    );

    let (status, _used) = program.wait4()?;
    ensure!(status == 0, "it ended with {status}");
    let mut exit = Value::Null;
    wait_until("its end is stored", 60, || {
        let exits = stack.json("exits --since 10m --limit 10000").unwrap_or_default();
        exit = row(&exits["exits"], "pid", &pid.into()).unwrap_or_default();
        !exit.is_null()
    })?;
    ensure!(exit["pod_uid"] == *uid, "{exit}");
    let range = "host = '', start = now() - 600, end = now() + 1";
    for view in ["top_processes", "exited_processes"] {
        let pod = stack.sql(&format!("SELECT pod_uid FROM {view}({range}) WHERE pid = {pid}"))?;
        ensure!(pod == uid, "{view}: {pod}");
    }
    Ok(())
}
