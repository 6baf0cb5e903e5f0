//! The manifests fit each other and the configuration. No API server looks at them here.

use std::fs;

use serde::Deserialize;
use serde_yaml::Value;

use super::{deploy, read, yaml};

/// The specification of the pods.
pub fn pod() -> Value {
    yaml("kubernetes/statefulset.yaml")["spec"]["template"]["spec"].clone()
}

/// All Services, each with its name.
fn services() -> Vec<(String, Value)> {
    let mut services = Vec::new();
    for file in ["kubernetes/service.yaml", "kubernetes/data.yaml"] {
        for document in serde_yaml::Deserializer::from_str(&read(file)) {
            let service = Value::deserialize(document).expect("YAML");
            services.push((text(&service["metadata"]["name"]), service));
        }
    }
    services
}

fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("{value:?} is no text"))
        .to_owned()
}

fn sequence(value: &Value) -> &Vec<Value> {
    let sequence = value.as_sequence();
    sequence.unwrap_or_else(|| panic!("{value:?} is no list"))
}

/// The ports of a Service: number and the name of the container's port.
fn ports(service: &Value) -> Vec<(u64, String)> {
    let ports = sequence(&service["spec"]["ports"]).iter();
    ports
        .map(|port| {
            (
                port["port"].as_u64().expect("a number"),
                text(&port["targetPort"]),
            )
        })
        .collect()
}

/// What is announced by the pod with this number.
fn announced(number: u64) -> u64 {
    let pod = pod();
    let container = &pod["containers"][0];
    let arguments: Vec<String> = sequence(&container["args"]).iter().map(text).collect();
    let option = arguments.iter().position(|it| it == "--announced-ports");
    let value = &arguments[option.expect("it is there") + 1];
    let variable = &container["env"][0];
    let reference = format!("$({})", text(&variable["name"]));
    assert!(value.contains(&reference), "{value}");
    // The label is the number in the pod's name.
    let label = text(&variable["valueFrom"]["fieldRef"]["fieldPath"]);
    assert_eq!(label, "metadata.labels['apps.kubernetes.io/pod-index']");
    let value = value.replace(&reference, &number.to_string());
    value.parse().expect("a port")
}

#[test]
fn the_container_declares_the_ports_that_the_configuration_opens() {
    let configuration = yaml("kubernetes/portcullis.yaml");
    let mut opened: Vec<u64> = sequence(&configuration["listeners"])
        .iter()
        .chain([&configuration["admin"]])
        .map(|place| {
            let address = text(&place["address"]);
            let (_, port) = address.rsplit_once(':').expect("a port");
            port.parse().expect("a number")
        })
        .chain(configuration["passive"]["ports"].as_u64())
        .collect();
    let pod = pod();
    let mut declared: Vec<u64> = sequence(&pod["containers"][0]["ports"])
        .iter()
        .filter_map(|port| port["containerPort"].as_u64())
        .collect();
    opened.sort_unstable();
    declared.sort_unstable();
    assert_eq!(opened, declared);
}

#[test]
fn each_pod_has_a_service_for_the_port_that_it_announces_at_the_address_of_the_control_service() {
    let set = yaml("kubernetes/statefulset.yaml");
    let services = services();
    let named = |name: &str| {
        let service = services.iter().find(|(its, _)| its == name);
        &service.unwrap_or_else(|| panic!("no Service {name}")).1
    };
    let control = named("portcullis");
    assert_eq!(
        ports(control),
        [(21, "ftp".to_owned()), (990, "ftps".to_owned())]
    );
    let pods = set["spec"]["replicas"].as_u64().expect("a number");
    assert!(pods > 1);
    for number in 0..pods {
        let service = named(&format!("portcullis-data-{number}"));
        // Clients connect to the number that they are told, so it can't be mapped to another.
        assert_eq!(ports(service), [(announced(number), "ftp-data".to_owned())]);
        let pod = format!("{}-{number}", text(&set["metadata"]["name"]));
        let chosen = &service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"];
        assert_eq!(text(chosen), pod);
        // Its sessions go on while it is not ready any more.
        assert_eq!(
            service["spec"]["publishNotReadyAddresses"],
            Value::from(true)
        );
        assert_eq!(
            service["metadata"]["annotations"],
            control["metadata"]["annotations"]
        );
        let policy = "externalTrafficPolicy";
        assert_eq!(service["spec"][policy], control["spec"][policy]);
    }
    // Each of them, the control Service, and the one without an address.
    assert_eq!(services.len() as u64, pods + 2);
    let address = text(&yaml("kubernetes/portcullis.yaml")["passive"]["address"]);
    let annotations = &control["metadata"]["annotations"];
    assert_eq!(text(&annotations["metallb.io/loadBalancerIPs"]), address);
}

#[test]
fn whatever_selects_pods_selects_these() {
    let set = yaml("kubernetes/statefulset.yaml");
    let labels = set["spec"]["template"]["metadata"]["labels"].as_mapping();
    let labels = labels.expect("labels");
    let selects = |selector: &Value, what: &str| {
        let selector = selector.as_mapping().expect("labels");
        assert!(!selector.is_empty(), "{what} selects everything");
        for (label, value) in selector {
            assert_eq!(labels.get(label), Some(value), "{what}");
        }
    };
    selects(&set["spec"]["selector"]["matchLabels"], "the StatefulSet");
    let budget = yaml("kubernetes/disruption-budget.yaml");
    selects(&budget["spec"]["selector"]["matchLabels"], "the budget");
    assert_eq!(budget["spec"]["maxUnavailable"], Value::from(1));
    let pod = pod();
    let spread = sequence(&pod["topologySpreadConstraints"]);
    assert_eq!(spread.len(), 2);
    for constraint in spread {
        selects(&constraint["labelSelector"]["matchLabels"], "a spread");
    }
    for (name, service) in services() {
        if !name.starts_with("portcullis-data-") {
            selects(&service["spec"]["selector"], &name);
        }
    }
    let governing = text(&set["spec"]["serviceName"]);
    let is_headless = |(name, service): &(String, Value)| {
        *name == governing && service["spec"]["clusterIP"] == "None"
    };
    assert!(services().iter().any(is_headless), "{governing}");
}

#[test]
fn readiness_is_what_decides_about_new_clients_and_liveness_is_not() {
    let pod = pod();
    let container = &pod["containers"][0];
    let path = |probe: &str| text(&container[probe]["httpGet"]["path"]);
    assert_eq!(path("readinessProbe"), "/readyz");
    assert_eq!(path("startupProbe"), "/readyz");
    // A lame duck is not to be killed.
    assert_eq!(path("livenessProbe"), "/healthz");
}

#[test]
fn every_manifest_is_applied_and_the_secret_is_that_of_the_certificate() {
    let applied: Vec<String> = sequence(&yaml("kubernetes/kustomization.yaml")["resources"])
        .iter()
        .map(text)
        .collect();
    let folder = fs::read_dir(deploy("kubernetes")).expect("a folder of the repository");
    for file in folder {
        let name = file
            .expect("a file")
            .file_name()
            .into_string()
            .expect("UTF-8");
        // These are the list, what becomes a ConfigMap, and what needs cert-manager.
        let is_apart = ["kustomization.yaml", "portcullis.yaml", "certificate.yaml"];
        assert_ne!(
            applied.contains(&name),
            is_apart.contains(&name.as_str()),
            "{name}"
        );
    }
    let pod = pod();
    let mut volumes = sequence(&pod["volumes"]).iter();
    let tls = volumes.find(|volume| volume["name"] == "tls");
    let secret = text(&tls.expect("a volume")["secret"]["secretName"]);
    let certificate = yaml("kubernetes/certificate.yaml");
    assert_eq!(text(&certificate["spec"]["secretName"]), secret);
}
