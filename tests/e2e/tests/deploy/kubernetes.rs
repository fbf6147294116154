//! The manifests: kustomize builds them, Kubernetes' own schema accepts them, they grant what they say and no more,
//! and the programs know their options and settings.

use std::{fs, process::Command, sync::OnceLock};

use serde_json::{Value, json};

use crate::{
    store,
    tools::{check_words, deploy, files, run, stdout, tool, write_secret, yaml},
};

/// The oldest Kubernetes that knows everything the manifests use (sidecars), and a newer one.
const VERSIONS: [&str; 2] = ["1.29", "1.34"];

/// What kustomize makes of `deploy/kubernetes` once an operator has made the secrets.
fn rendered() -> &'static str {
    static RENDERED: OnceLock<String> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = deploy("kubernetes");
        for file in files(&source, "") {
            fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        fs::create_dir(folder.path().join("secrets")).unwrap();
        for secret in [
            "ingest-token",
            "store-password",
            "reader-password",
            "tokens.toml",
            "ca.pem",
            "server.pem",
            "server.key",
        ] {
            write_secret(&folder.path().join("secrets").join(secret), "0123456789abcdef");
        }
        stdout(Command::new(tool("kubectl")).arg("kustomize").arg(folder.path()))
    })
}

fn manifests() -> &'static [Value] {
    static MANIFESTS: OnceLock<Vec<Value>> = OnceLock::new();
    MANIFESTS.get_or_init(|| yaml(rendered()))
}

fn manifest(kind: &str, name: &str) -> &'static Value {
    let is_it = |value: &&Value| {
        let found = value["metadata"]["name"].as_str().unwrap();
        value["kind"] == kind && (found == name || found.starts_with(&format!("{name}-")))
    };
    manifests()
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {kind} {name} in\n{}", rendered()))
}

fn agent_pod() -> &'static Value {
    &manifest("DaemonSet", "procscope-agent")["spec"]["template"]["spec"]
}

fn collector_pod() -> &'static Value {
    &manifest("Deployment", "procscope-collector")["spec"]["template"]["spec"]
}

/// All containers of a pod.
fn containers(pod: &Value) -> Vec<&Value> {
    ["initContainers", "containers"]
        .iter()
        .filter_map(|key| pod[key].as_array())
        .flatten()
        .collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_manifest_is_part_of_the_kustomization() {
    let folder = deploy("kubernetes");
    let kustomization = &yaml(&fs::read_to_string(folder.join("kustomization.yaml")).unwrap())[0];
    let listed = texts(&kustomization["resources"]);
    for file in files(&folder, ".yaml") {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            name == "kustomization.yaml" || listed.iter().any(|other| other == name),
            "{name} is not listed"
        );
    }
}

#[test]
fn the_schema_of_kubernetes_accepts_the_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("procscope.yaml");
    fs::write(&file, rendered()).unwrap();
    for version in VERSIONS {
        run(Command::new(tool("kubernetes-validate"))
            .args(["--strict", "-k", version])
            .arg(&file));
    }
}

#[test]
fn the_agent_has_two_capabilities_and_no_container_is_privileged() {
    let agent = agent_pod();
    assert_eq!(agent["hostPID"], true);
    assert_eq!(containers(agent).len(), 1);
    let capabilities = &agent["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(capabilities, &json!({"drop": ["ALL"], "add": ["BPF", "PERFMON"]}));
    let writable: Vec<&Value> = agent["containers"][0]["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|mount| mount["readOnly"] != true)
        .map(|mount| &mount["mountPath"])
        .collect();
    assert_eq!(writable, ["/var/lib/procscope-agent"]);

    let collector = collector_pod();
    assert_eq!(collector["securityContext"]["runAsNonRoot"], true);
    for container in containers(collector) {
        assert_eq!(
            container["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]})
        );
    }
    for pod in [agent, collector] {
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert!(pod["hostNetwork"].is_null() && pod["hostIPC"].is_null());
        assert!(pod["securityContext"]["seccompProfile"]["type"].is_string());
        for container in containers(pod) {
            let context = &container["securityContext"];
            assert_eq!(context["privileged"], false);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert!(
                container["resources"]["limits"]["memory"].is_string(),
                "{container}"
            );
        }
        for volume in pod["volumes"].as_array().unwrap() {
            // 256 is 0400: the programs refuse secrets that everybody can read.
            assert!(
                volume["secret"].is_null() || volume["secret"]["defaultMode"] == 256,
                "{volume}"
            );
        }
    }
    let labels = &manifest("Namespace", "procscope")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn the_network_lets_agents_in_and_nobody_else() {
    let deny = &manifest("NetworkPolicy", "procscope-deny")["spec"];
    assert_eq!(
        deny,
        &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    let labels =
        |pod: &Value| json!({"matchLabels": {"app.kubernetes.io/name": pod["app.kubernetes.io/name"]}});
    let agent = labels(&manifest("DaemonSet", "procscope-agent")["spec"]["template"]["metadata"]["labels"]);
    let collector =
        labels(&manifest("Deployment", "procscope-collector")["spec"]["template"]["metadata"]["labels"]);
    let policy = &manifest("NetworkPolicy", "procscope-collector")["spec"];
    assert_eq!(policy["podSelector"], collector);
    let from_agents =
        json!([{"from": [{"podSelector": agent}], "ports": [{"protocol": "TCP", "port": 7400}]}]);
    assert_eq!(policy["ingress"], from_agents);
    let to_collector =
        json!({"to": [{"podSelector": collector}], "ports": [{"protocol": "TCP", "port": 7400}]});
    let agents_egress = &manifest("NetworkPolicy", "procscope-agent")["spec"]["egress"];
    assert_eq!(agents_egress[0], to_collector);
    let service = &manifest("Service", "procscope-collector")["spec"];
    assert_eq!(service["ports"].as_array().unwrap().len(), 1);
    assert_eq!(service["selector"], collector["matchLabels"]);
}

#[test]
fn the_programs_know_the_options_of_their_pods() {
    for pod in [agent_pod(), collector_pod()] {
        for container in containers(pod) {
            let package = format!("procscope-{}", container["name"].as_str().unwrap());
            assert!(
                container["image"]
                    .as_str()
                    .unwrap()
                    .starts_with(&format!("{package}:")),
                "{container}"
            );
            let mut words = texts(&container["args"]);
            for variable in container["env"].as_array().into_iter().flatten() {
                words.push(variable["name"].as_str().unwrap().to_owned());
            }
            check_words(&package, &words);
        }
    }
}

#[test]
fn the_probe_of_the_engine_tells_up_from_down() {
    let engine = &collector_pod()["initContainers"][0];
    let command = texts(&engine["startupProbe"]["exec"]["command"]);
    assert_eq!(
        engine["livenessProbe"]["exec"]["command"],
        engine["startupProbe"]["exec"]["command"]
    );
    let store = store::Store::start();
    let ask = |port: u16| {
        let words = command.iter().map(|word| word.replace("8123", &port.to_string()));
        let words: Vec<String> = words.collect();
        Command::new(&words[0])
            .args(&words[1..])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(ask(store.port), "the engine is up");
    assert!(!ask(store::free_port()), "nobody is there");
}
