//! HAProxy's file, as HAProxy reads it, beside the configuration of the instances. That it works is shown by whole-program tests
//! of `it::instances`.

use testkit::programs;

use super::{deploy, lame_duck, output_of, read, seconds, yaml};

/// The values of a setting, in all sections.
fn settings<'a>(file: &'a str, name: &str) -> Vec<&'a str> {
    let lines = file.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .collect()
}

/// Whole seconds, minutes or hours, as HAProxy writes them.
fn duration(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("{other} is no unit"),
    };
    factor * seconds(number)
}

#[test]
fn haproxy_understands_its_file() {
    let program = programs::server_file("haproxy/usr/sbin/haproxy");
    let program = program.to_str().expect("UTF-8");
    output_of(program, &["-c", "-f"], &deploy("haproxy/haproxy.cfg"));
}

#[test]
fn no_connection_is_ended_by_haproxy_before_portcullis_would_end_it() {
    // The defaults of `data_idle` and `final_reply`, which the configuration doesn't change.
    let (data_idle, final_reply) = (300, 600);
    let configuration = yaml("haproxy/portcullis.yaml");
    let timeouts = configuration["timeouts"].as_mapping().expect("a map");
    assert!(!timeouts.contains_key("data_idle") && !timeouts.contains_key("final_reply"));
    let file = read("haproxy/haproxy.cfg");
    for side in ["timeout client", "timeout server"] {
        let found = settings(&file, side);
        assert_eq!(
            found.len(),
            2,
            "{side}: for data, and for control connections"
        );
        for value in found {
            assert!(duration(value) > data_idle + final_reply, "{side} {value}");
        }
    }
}

#[test]
fn lame_duck_lasts_longer_than_haproxy_takes_to_notice() {
    let file = read("haproxy/haproxy.cfg");
    let [checks] = settings(&file, "default-server")[..] else {
        panic!("one line for all servers")
    };
    let words: Vec<&str> = checks.split(' ').collect();
    let value = |name| {
        let at = words.iter().position(|word| *word == name);
        words[at.unwrap_or_else(|| panic!("no {name}")) + 1]
    };
    let notices_after = duration(value("inter")) * seconds(value("fall"));
    let configuration = yaml("haproxy/portcullis.yaml");
    assert!(lame_duck(&configuration) > notices_after);
    // The admin endpoint is asked, without a PROXY header.
    let admin = configuration["admin"]["address"]
        .as_str()
        .expect("an address");
    assert_eq!(admin.rsplit(':').next(), Some(value("port")));
}

#[test]
fn each_instance_has_its_own_data_port_and_the_command_that_announces_it() {
    let file = read("haproxy/haproxy.cfg");
    let configuration = yaml("haproxy/portcullis.yaml");
    let listened = configuration["passive"]["ports"]
        .as_u64()
        .expect("one port");
    let data: Vec<&str> = file.split("\nlisten data-").skip(1).collect();
    assert_eq!(data.len(), 3);
    for section in data {
        let name = &section[..1];
        let bound = settings(section, "bind")[0].trim_start_matches(':');
        let announces =
            format!("{name}$ portcullis run --config portcullis.yaml --announced-ports {bound}\n");
        assert!(file.contains(&announces), "{announces}");
        let server = settings(section, "server")[0];
        let (address, send) = server
            .split_once(' ')
            .expect("a name")
            .1
            .split_once(' ')
            .expect("an address");
        let (address, port) = address.rsplit_once(':').expect("a port");
        assert_eq!(port, listened.to_string());
        assert_eq!(send, "send-proxy-v2");
        let control = format!("    server {name} {address}\n");
        assert!(file.contains(&control), "{control}");
    }
}
