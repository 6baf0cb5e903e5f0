//! The page as text: what is in it, and what can't get into it.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;

use super::*;
use crate::view::fixtures::{Sample, ago, backend, certificate, show_certificate, site, transfer};
use crate::view::{
    BackendClientCertificateView, CheckView, DrainedBy, RefusedView, ReloadView, RevocationListView,
};

impl Sample {
    fn html(&self) -> String {
        render(&Page {
            process: self.process(),
            disclosure: self.disclosure,
            transfers: &self.transfers,
            transfers_total: self.transfers_total,
        })
    }
}

/// Everything at once.
fn troubled() -> Sample {
    let mut sample = Sample::well();
    sample.overview.readiness = "draining";
    sample.overview.reloads.push(ReloadView {
        at: ago(754),
        subject: "configuration",
        refused: Some("portcullis.yaml:14:5: unknown key".to_owned()),
        stands: true,
    });
    sample.overview.refused.push(RefusedView {
        at: ago(754),
        subject: "configuration",
        name: None,
        reason: "portcullis.yaml:14:5: unknown key".to_owned(),
    });
    sample.certificates.push(certificate(-3, 90));
    sample.sites.push(site("ftpb"));
    sample.sites[0].maintenance = Some("operator");
    sample.sites[1].backends_up = 0;
    sample.sites[1].sessions = 9_000;
    sample.backends[0].drained_by = Some(DrainedBy::Operator);
    sample.backends.push(backend("ftpb", "be1"));
    sample.backends[1].group = Some("moved".to_owned());
    sample.backends[1].address = "10.0.0.11:21".to_owned();
    sample.backends[1].state = "down";
    sample.backends[1].out_since = Some(ago(720));
    show_certificate(&mut sample.backends[1], 3, 90);
    sample.backends[1].check = Some(CheckView {
        at: ago(7),
        seconds: 10.0,
        failed_at: Some("greeting"),
        login_refused: false,
    });
    sample.transfers.push(transfer());
    sample.transfers[1].size = None;
    sample.transfers_total = 1_234;
    sample.overview.revocation_lists.push(RevocationListView {
        file: "/etc/portcullis/partners.crl".to_owned(),
        issuer: "CN=Partners".to_owned(),
        next_update: Some(ago(600)),
        then_refused: true,
    });
    sample
        .overview
        .backend_client_certificates
        .push(BackendClientCertificateView {
            file: "/etc/portcullis/own.crt".to_owned(),
            pair: certificate(61, 90).pair.expect("a pair"),
        });
    sample
}

fn empty() -> Sample {
    let mut sample = Sample::well();
    sample.overview.reloads.clear();
    sample.certificates.clear();
    sample.sites.clear();
    sample.backends.clear();
    sample.transfers.clear();
    sample.transfers_total = 0;
    sample
}

/// The tags of a document, without the values of their attributes. Fails where they don't match.
fn tags(html: &str) -> Vec<String> {
    let mut open = Vec::new();
    let mut tags = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("an end of the tag");
        let outside_quotes: Vec<_> = tag.split('"').step_by(2).collect();
        assert!(tag.split('"').count() % 2 == 1, "open quotes: {tag}");
        let tag = outside_quotes.concat();
        let name = tag.split(' ').next().expect("a name").to_owned();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None if ["!DOCTYPE", "meta"].contains(&name.as_str()) => {}
            None => open.push(name),
        }
        tags.push(tag);
    }
    assert_eq!(open, [""; 0], "never closed");
    tags
}

#[test]
fn every_tag_is_closed() {
    for sample in [Sample::well(), troubled(), empty()] {
        assert!(tags(&sample.html()).len() > 50);
    }
}

#[test]
fn a_name_is_text_whatever_is_in_it() {
    let named = |name: &str| {
        let mut sample = troubled();
        for transfer in &mut sample.transfers {
            transfer.user = Some(name.to_owned());
            transfer.path = Some(name.to_owned());
            transfer.site = Some(name.to_owned());
        }
        for site in &mut sample.sites {
            site.site = name.to_owned();
            site.hosts = vec![name.to_owned()];
        }
        for backend in &mut sample.backends {
            backend.site = name.to_owned();
            backend.group = Some(name.to_owned());
            backend.backend = name.to_owned();
        }
        for certificate in &mut sample.certificates {
            let pair = certificate.pair.as_mut().expect("it is served");
            pair.names = vec![name.to_owned()];
            pair.issuer = name.to_owned();
            certificate.file = name.to_owned();
            certificate.refused = Some(name.to_owned());
        }
        for reload in &mut sample.overview.reloads {
            reload.refused = Some(name.to_owned());
        }
        for refused in &mut sample.overview.refused {
            refused.name = Some(name.to_owned());
            refused.reason = name.to_owned();
        }
        sample.overview.config = name.to_owned();
        sample.html()
    };
    let harmless = tags(&named("alice"));
    for hostile in [
        "<script>alert(1)</script>",
        "\"onmouseover=\"alert(1)",
        "'onmouseover='alert(1)",
        "</td></tr></table><h1>All is well</h1>",
        "</style><style>",
        "<!--",
        "&lt;script&gt;",
    ] {
        let page = named(hostile);
        assert_eq!(tags(&page), harmless, "{hostile}");
        // What it is shown as is what it was.
        let shown = hostile.replace('&', "&amp;").replace('<', "&lt;");
        let shown = shown.replace('>', "&gt;").replace('"', "&quot;");
        assert!(page.contains(&format!("<bdi>{shown}</bdi>")), "{hostile}");
    }
}

#[test]
fn users_and_files_are_named_in_full_alone() {
    let mut sample = Sample::well();
    for (disclosure, named) in [(Disclosure::Full, true), (Disclosure::Summary, false)] {
        sample.disclosure = disclosure;
        let page = sample.html();
        assert_eq!(page.contains("alice"), named, "{disclosure:?}");
        assert_eq!(page.contains("november.pdf"), named, "{disclosure:?}");
        // The transfer itself is there.
        assert!(page.contains("198.51.100.7"), "{disclosure:?}");
    }
}

#[test]
fn it_says_at_once_whether_all_is_well() {
    let headline = |sample: &Sample| {
        let page = sample.html();
        let (_, rest) = page.split_once("<title>").expect("a title");
        let (title, _) = rest.split_once(" · Portcullis</title>").expect("its end");
        assert!(page.contains(&format!("<h1>{title}</h1>")));
        title.to_owned()
    };
    assert_eq!(headline(&Sample::well()), "All is well");
    assert_eq!(headline(&troubled()), "10 things need attention");
    let mut sample = Sample::well();
    sample.backends[0].state = "down";
    assert_eq!(headline(&sample), "One thing needs attention");
}

#[test]
fn a_refusal_is_shown_with_its_reason() {
    let page = troubled().html();
    let reason = "<pre>portcullis.yaml:14:5: unknown key</pre>";
    assert_eq!(page.matches(reason).count(), 2, "on top, and in its row");
}

#[test]
fn it_says_how_many_transfers_it_leaves_out() {
    let page = troubled().html();
    assert!(page.contains("2 of 1\u{202f}234; all of them are at /api/v1/transfers"));
    assert!(!Sample::well().html().contains("/api/v1/transfers"));
}

#[test]
fn progress_is_shown_where_the_size_can_be_right() {
    for (bytes, size, shown) in [
        (512, Some(1_024), Some("50 %, ")),
        (1_024, Some(1_024), Some("100 %, ")),
        (0, Some(u64::MAX), Some("0 %, ")),
        (u64::MAX, Some(u64::MAX), Some("100 %, ")),
        (1_025, Some(1_024), None),
        (0, Some(0), None),
        (512, None, None),
    ] {
        let mut sample = Sample::well();
        sample.transfers[0].bytes = bytes;
        sample.transfers[0].size = size;
        let page = sample.html();
        assert_eq!(page.contains("<progress"), shown.is_some(), "{bytes}");
        assert!(
            shown.is_none_or(|percent| page.contains(percent)),
            "{bytes}"
        );
    }
}

#[test]
fn the_browser_is_asked_for_nothing_else() {
    let page = troubled().html();
    for reference in [
        " src=", "<link", "<script", "<img", "@import", "url(", "http:", "https:", " style=",
    ] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn the_policy_allows_the_style_sheet_that_there_is() {
    let hash = BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
    let allowed = HEADERS.iter().any(|(name, value)| {
        let value = value.to_str().expect("text");
        name == CONTENT_SECURITY_POLICY && value.contains(&format!("style-src 'sha256-{hash}';"))
    });
    assert!(
        allowed,
        "style.css has changed: write sha256-{hash} into HEADERS"
    );
}
