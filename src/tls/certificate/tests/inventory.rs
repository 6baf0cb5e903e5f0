//! Tests of loading a configuration with many certificates: every layout of a directory, and what one bad file costs.

use std::path::Path;

use super::*;
use crate::config;
use crate::tls::certificate::source::MAX_ENTRIES;

struct Place(tempfile::TempDir);

impl Place {
    /// With a central pair.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("tls.crt", "tls.key", &identity());
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, file: &str, content: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn write(&self, certificate: &str, key: &str, identity: &Identity) {
        self.put(certificate, &identity.chain_pem());
        self.put(key, &identity.key_pem());
    }

    fn tls(&self, more: &str) -> config::Tls {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
             tls: {{certificate: tls.crt, private_key: tls.key, more: {more}}}\n\
             sites: [{{name: a, default: true, backends: [{{address: 192.0.2.1}}]}}]\n"
        );
        let settings = config::parse(&text, &self.path().join("portcullis.yaml"));
        settings.unwrap().tls
    }

    fn load(&self, more: &str) -> CertificateSet {
        CertificateSet::load(&self.tls(more), now()).unwrap()
    }

    /// The certificates that are served, and those that are refused, by their names without the folder.
    fn short(&self, set: &CertificateSet) -> (Vec<String>, Vec<String>) {
        let folder = format!("{}/", self.path().display());
        let served = set.entries().filter(|entry| entry.pair().is_some());
        (
            served
                .map(|entry| entry.source.name.replace(&folder, ""))
                .collect(),
            set.refusals()
                .map(|(_, error)| error.to_string().replace(&folder, ""))
                .collect(),
        )
    }
}

fn identity() -> Identity {
    Identity::self_signed(&["ftp.test"])
}

#[test]
fn every_layout_of_a_directory_is_read_and_what_else_lies_there_is_not() {
    let place = Place::new();
    let other = |name: &str| Identity::self_signed(&[name]);
    for name in ["a.test", "b.test"] {
        let folder = format!("certbot/{name}");
        place.write(
            &format!("{folder}/fullchain.pem"),
            &format!("{folder}/privkey.pem"),
            &other(name),
        );
        place.put(&format!("{folder}/README"), "see certbot");
        place.write(
            &format!("pairs/{name}.crt"),
            &format!("pairs/{name}.key"),
            &other(name),
        );
        let both = other(name);
        let both = format!("{}{}", both.key_pem(), both.chain_pem());
        place.put(&format!("combined/{name}.pem"), &both);
        let folder = format!("kubernetes/{name}");
        place.write(
            &format!("{folder}/tls.crt"),
            &format!("{folder}/tls.key"),
            &other(name),
        );
    }
    place.put("certbot/README", "see certbot");
    place.put("certbot/.hidden/fullchain.pem", "");
    place.put("certbot/empty/README", "");
    place.put("pairs/a.test.issuer.crt", "");
    place.put("pairs/a.test.json", "");
    place.put("pairs/.b.test.crt.swp", "");
    place.put("pairs/alone.key", "");
    place.put("combined/dhparam", "");
    place.put("combined/.a.test.pem", "");
    place.put("kubernetes/..2026_01/tls.crt", "");
    for (layout, suffix) in [
        ("certbot", ""),
        ("pairs", ".crt"),
        ("combined", ".pem"),
        ("kubernetes", ""),
    ] {
        let set = place.load(&format!("[{{directory: {layout}, layout: {layout}}}]"));
        let (served, refused) = place.short(&set);
        let names = ["a.test", "b.test"].map(|name| format!("{layout}/{name}{suffix}"));
        assert_eq!(served, [&["default".to_owned()], &names[..]].concat());
        assert_eq!(refused, [""; 0], "{layout}");
    }
}

#[test]
fn half_of_a_certificate_is_refused_by_the_name_of_what_is_missing() {
    let place = Place::new();
    let pair = identity();
    place.put("certbot/a/fullchain.pem", &pair.chain_pem());
    place.put("certbot/b/privkey.pem", &pair.key_pem());
    place.put("pairs/c.crt", &pair.chain_pem());
    place.put("combined/d.pem", &pair.chain_pem());
    let set = place.load(
        "[{directory: certbot, layout: certbot}, {directory: pairs, layout: pairs}, {directory: combined, layout: combined}]",
    );
    let (served, refused) = place.short(&set);
    assert_eq!(served, ["default"]);
    for (fault, begins) in refused.iter().zip([
        "cannot read certbot/a/privkey.pem: ",
        "cannot read certbot/b/fullchain.pem: ",
        "cannot read pairs/c.key: ",
        "combined/d.pem holds no private key",
    ]) {
        assert!(fault.starts_with(begins), "{fault}");
    }
    assert_eq!(refused.len(), 4);
}

#[test]
fn one_bad_certificate_is_refused_alone_but_the_central_one_refuses_everything() {
    let place = Place::new();
    place.write("b.crt", "b.key", &identity());
    place.write("c.crt", "c.key", &identity());
    place.put("b.key", &identity().key_pem());
    let more =
        "[{certificate: b.crt, private_key: b.key}, {certificate: c.crt, private_key: c.key}]";
    let set = place.load(more);
    let (served, refused) = place.short(&set);
    assert_eq!(served, ["default", "c.crt"]);
    assert_eq!(
        refused,
        ["private key b.key does not belong to the certificate in b.crt"]
    );
    place.put("tls.crt", "");
    let error = CertificateSet::load(&place.tls(more), now()).unwrap_err();
    assert!(error.to_string().ends_with("tls.crt is empty"));
}

#[test]
fn a_reload_keeps_what_is_in_use_of_a_bad_certificate_while_it_is_valid() {
    let place = Place::new();
    place.write("live/a/tls.crt", "live/a/tls.key", &identity());
    place.write("live/b/tls.crt", "live/b/tls.key", &identity());
    let more = "[{directory: live, layout: kubernetes}]";
    let tls = place.tls(more);
    let former = place.load(more);
    place.put("live/a/tls.crt", "");
    let reload = |now| {
        Inventory::load(&tls, Some(&former), now)
            .into_set()
            .unwrap()
    };
    let set = reload(now());
    let (served, refused) = place.short(&set);
    assert_eq!(served, ["default", "live/a", "live/b"]);
    assert_eq!(refused, ["live/a/tls.crt is empty"]);
    let kept = set.entries().nth(1).unwrap();
    assert_eq!(kept.pair().unwrap().names, ["ftp.test"]);
    // A directory that can't be read is no reason to give up what was found in it.
    fs::rename(place.path().join("live"), place.path().join("away")).unwrap();
    let (served, refused) = place.short(&reload(now()));
    assert_eq!(served, ["default", "live/a", "live/b"]);
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("cannot read the directory live: "),
        "{refused:?}"
    );
    fs::rename(place.path().join("away"), place.path().join("live")).unwrap();
    place.write("live/b/tls.crt", "live/b/tls.key", &identity());
    let expired = former.entries().nth(1).unwrap().pair().unwrap().not_after;
    // The central one would be refused by then, too.
    let inventory = Inventory::load(&tls, Some(&former), expired + Duration::from_secs(1));
    assert!(inventory.entries().all(|entry| entry.pair().is_none()));
}

/// As when what was mounted there is gone: the place is a directory of another file system, and empty.
#[test]
fn a_reload_keeps_what_is_in_use_of_a_directory_that_is_unmounted() {
    let place = Place::new();
    let mounted = tempfile::tempdir_in("/dev/shm").unwrap();
    let live = place.path().join("live");
    std::os::unix::fs::symlink(mounted.path(), &live).unwrap();
    place.write("live/a/tls.crt", "live/a/tls.key", &identity());
    let more = "[{directory: live, layout: kubernetes}]";
    let tls = place.tls(more);
    let former = place.load(more);
    fs::remove_file(&live).unwrap();
    fs::create_dir(&live).unwrap();
    let reload = |former: &CertificateSet| {
        Inventory::load(&tls, Some(former), now())
            .into_set()
            .unwrap()
    };
    let once = reload(&former);
    let again = reload(&once);
    for set in [&once, &again] {
        let (served, refused) = place.short(set);
        assert_eq!(served, ["default", "live/a"]);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].starts_with("the directory live is empty"),
            "{refused:?}"
        );
    }
    // It is back, and what was removed from it in the meantime is not served any more.
    fs::remove_dir(&live).unwrap();
    std::os::unix::fs::symlink(mounted.path(), &live).unwrap();
    fs::remove_dir_all(live.join("a")).unwrap();
    place.write("live/b/tls.crt", "live/b/tls.key", &identity());
    let (served, refused) = place.short(&reload(&again));
    assert_eq!(served, ["default", "live/b"]);
    assert_eq!(refused, [""; 0]);
}

#[test]
fn a_file_that_the_configuration_names_is_not_found_in_a_directory_once_more() {
    let place = Place::new();
    place.write("b.crt", "b.key", &identity());
    let more = "[{directory: ., layout: pairs}, {certificate: b.crt, private_key: b.key}]";
    place.write("c.crt", "c.key", &identity());
    let text = format!(
        "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
         tls: {{certificate: tls.crt, private_key: tls.key, more: {}}}\n\
         sites: [{{name: a, default: true, backends: [{{address: 192.0.2.1}}]}}]\n",
        more.replace(
            "directory: .",
            &format!("directory: {}", place.path().display())
        )
    );
    let settings = config::parse(&text, &place.path().join("portcullis.yaml")).unwrap();
    let set = CertificateSet::load(&settings.tls, now()).unwrap();
    assert_eq!(place.short(&set).0, ["default", "c.crt", "b.crt"]);
}

#[test]
fn a_key_that_shuts_clients_out_is_made_up_for_by_one_for_the_same_names_that_shuts_out_fewer() {
    let ecdsa = || Identity::self_signed(&["a.test"]);
    let rsa = || Identity::self_signed_by_rsa(&["a.test"]);
    let ed25519 = || Identity::self_signed_by_ed25519(&["a.test"]);
    for (one, other, made_up_for) in [
        (rsa(), ecdsa(), true),
        (rsa(), ed25519(), false),
        (rsa(), Identity::self_signed(&["b.test"]), false),
        (ed25519(), rsa(), true),
        (ed25519(), ed25519(), false),
    ] {
        let place = Place::new();
        place.write("one.crt", "one.key", &one);
        place.write("other.crt", "other.key", &other);
        let set = place.load(
            "[{certificate: one.crt, private_key: one.key}, {certificate: other.crt, private_key: other.key}]",
        );
        let entry = set.entries().nth(1).unwrap();
        let pair = entry.pair().unwrap();
        assert_eq!(set.has_more_usable_than(pair), made_up_for);
    }
}

#[test]
fn a_directory_with_too_many_entries_is_refused_as_a_whole() {
    let place = Place::new();
    place.write("crowd/a.crt", "crowd/a.key", &identity());
    let more = "[{directory: crowd, layout: pairs}]";
    for number in 2..MAX_ENTRIES {
        place.put(&format!("crowd/{number}.txt"), "");
    }
    assert_eq!(place.short(&place.load(more)).0, ["default", "crowd/a.crt"]);
    place.put("crowd/one more", "");
    let (served, refused) = place.short(&place.load(more));
    assert_eq!(served, ["default"]);
    assert!(refused[0].starts_with("the directory crowd has more than 4096 entries"));
}

#[test]
fn what_a_summary_says_is_not_what_stands_in_the_file() {
    let place = Place::new();
    place.put("b.crt", "-----BEGIN SECRET WORD-----\nAAAA\n");
    place.put("b.key", "");
    let set = place.load("[{certificate: b.crt, private_key: b.key}]");
    let (_, error) = set.refusals().next().unwrap();
    assert!(error.to_string().contains("SECRET WORD"));
    assert!(!error.summary().contains("SECRET"), "{}", error.summary());
}
