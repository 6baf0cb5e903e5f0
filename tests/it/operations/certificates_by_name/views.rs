//! What `check` and `explain` say of the certificates.

use super::*;

fn check(deployment: &Deployment) -> (Option<i32>, String) {
    let output = program::command()
        .args(["check", "--config"])
        .arg(deployment.proxy.config_file())
        .output()
        .expect("cargo built it");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), text)
}

#[test]
fn check_shows_each_certificate_and_what_does_not_go_together() {
    let deployment = Deployment::new();
    let (code, text) = check(&deployment);
    assert_eq!(code, Some(0), "{text}");
    for file in ["tls.crt", "b.crt", "c.crt", "c-rsa.crt", "other.crt"] {
        let facts = text.lines().filter(|line| {
            line.starts_with("certificate ") && line.contains(&format!("/{file}: CN="))
        });
        assert_eq!(facts.count(), 1, "{file}: {text}");
    }
    assert!(
        text.contains("89 days left, the key matches (rsa)"),
        "{text}"
    );
    // One of each kind is what is meant.
    assert!(!text.contains("are both for"), "{text}");
    assert!(!text.contains("no certificate covers"), "{text}");

    let authority = &deployment.front.authority;
    write(
        &deployment.file("more/c-too"),
        &authority.issue(&["ftpc.test"]),
    );
    let with_key_of_b = Pair {
        certificate: authority.issue(&["shared.test"]).certificate,
        private_key: deployment.b.private_key.clone(),
    };
    write(&deployment.file("more/bad"), &with_key_of_b);
    let shared = authority.issue_with_key_of(&deployment.other, &["shared.test"]);
    write(&deployment.file("more/shared"), &shared);
    fs::create_dir_all(deployment.file("empty")).expect("it is writable");
    let yaml = read(&deployment.proxy.config_file());
    let empty = format!(
        "more: [{{directory: {}, layout: combined}}, ",
        deployment.file("empty").display()
    );
    deployment
        .proxy
        .rewrite_config(&yaml.replace("more: [", &empty));
    fs::copy(deployment.file("b.crt"), deployment.file("more/copy.crt")).expect("it is there");
    fs::copy(deployment.file("b.key"), deployment.file("more/copy.key")).expect("it is there");
    for file in ["b.crt", "b.key"] {
        fs::remove_file(deployment.file(file)).expect("it is there");
    }
    let (code, text) = check(&deployment);
    assert_eq!(code, Some(1), "{text}");
    for line in [
        "problem: cannot read ",
        "bad.crt; it is not served, and all others are",
        "more/c.crt are both for ftpc.test: clients that name it are shown the one that expires last",
        "more/shared.crt have the same private key",
        "/empty has no certificate beside the central one as `layout: combined` looks for them",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // What others put into a directory prevents no reload.
    write(&deployment.file("b"), &deployment.b);
    let (code, text) = check(&deployment);
    assert_eq!(code, Some(0), "{text}");
    // A directory that isn't there is a slip in the configuration, as a pair is.
    fs::remove_dir(deployment.file("empty")).expect("it is empty");
    let (code, text) = check(&deployment);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("problem: cannot read the directory "),
        "{text}"
    );
    for file in ["b.crt", "b.key", "more/copy.crt"] {
        fs::remove_file(deployment.file(file)).expect("it is there");
    }
    let (_, text) = check(&deployment);
    assert!(
        text.contains("hint: site b: no certificate covers ftpb.test"),
        "{text}"
    );
}

#[test]
fn explain_says_which_certificate_is_shown() {
    let deployment = Deployment::new();
    let explain = |arguments: &[&str]| {
        let output = program::command()
            .args(["explain", "--format", "json", "--config"])
            .arg(deployment.proxy.config_file())
            .args(arguments)
            .arg("alice")
            .output()
            .expect("cargo built it");
        let said: Value = serde_yaml::from_slice(&output.stdout).expect("JSON");
        let name = |key: &str| {
            let name = said[key]["name"].as_str()?;
            name.rsplit('/').next().map(str::to_owned)
        };
        (
            name("certificate").expect("one is shown"),
            name("certificate_for_rsa"),
            name("certificate_before_host"),
        )
    };
    let implicit = deployment.proxy.implicit().to_string();
    for (arguments, certificate, for_rsa, before_host) in [
        (&[][..], "default", None, None),
        (&["--sni", "ftpb.test"], "b.crt", None, None),
        (&["--sni", "ftpc.test"], "c.crt", Some("c-rsa.crt"), None),
        (&["--sni", "unknown.test"], "default", None, None),
        (&["--host", "ftpb.test"], "b.crt", None, Some("default")),
        (
            &["--host", "ftpb.test", "--sni", "other.test"],
            "b.crt",
            None,
            Some("other.crt"),
        ),
        // There HOST can only come behind the handshake.
        (
            &["--listener", &implicit, "--host", "ftpb.test"],
            "default",
            None,
            None,
        ),
    ] {
        let expected = (
            certificate.to_owned(),
            for_rsa.map(str::to_owned),
            before_host.map(str::to_owned),
        );
        assert_eq!(explain(arguments), expected, "{arguments:?}");
    }
}
