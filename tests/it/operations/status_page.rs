//! The status page: what the program serves, and how a browser shows it.

use std::fs;

use testkit::browser::{self, Shown};
use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::{Proxy, Signal};
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// On a telephone and on a desk.
const WIDTHS: [u32; 2] = [390, 1280];

/// A user, and what stands for it in HTML.
const USER: [&str; 2] = [
    "<script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
];

/// A file of the same kind, and too long for a telephone.
const FILE: [&str; 2] = [
    "\"onmouseover=alert(1)//a-directory-with-a-long-name/another-one-that-is-longer/<img-src=x>.tar.zst",
    "\"onmouseover=alert(1)//a-directory-with-a-long-name/another-one-that-is-longer/&lt;img-src=x&gt;.tar.zst",
];

/// Says of the document, in attributes of its root: how many of its parts are wider than their place, whether rows are those
/// of a table, and how many scripts there are with this one.
const MEASURE: &str = "<script>
    const parts = [document.scrollingElement, ...document.querySelectorAll('header, section, dl, footer')];
    const root = document.documentElement;
    root.dataset.overflowing = parts.filter(part => part.scrollWidth > part.clientWidth).length;
    root.dataset.rows = getComputedStyle(document.querySelector('tbody tr')).display;
    root.dataset.scripts = document.scripts.length;
</script></body>";

/// What a test looks at: a proxy with an upload under way, and the page that it serves.
struct Scene {
    proxy: Proxy,
    page: String,
}

/// Lets a test look while the upload of [`FILE`] by [`USER`] runs.
fn look(status: &str, at: impl FnOnce(&Scene)) {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("only", backend.address());
    let proxy = Proxy::start(
        front
            .config()
            .site(&site)
            .endpoint("status", &format!("{status:?}")),
    );
    let mut client = front.session(&proxy, USER[0]);
    let data = client.begin(&format!("STOR {}", FILE[0]));
    let (code, page) = proxy.get("/");
    assert_eq!(code, 200, "{page}");
    let scene = Scene { proxy, page };
    at(&scene);
    client.finish_upload(data);
}

fn address(proxy: &Proxy) -> String {
    format!("http://{}/", proxy.admin())
}

#[test]
fn a_running_transfer_is_on_it_and_users_and_files_are_named_where_that_is_wanted() {
    for (status, named) in [("full", true), ("summary", false)] {
        look(status, |scene| {
            assert!(scene.page.contains("<h1>All is well</h1>"), "{status}");
            assert!(scene.page.contains("STOR"), "{status}");
            assert_eq!(scene.page.contains(USER[1]), named, "{status}");
            assert_eq!(scene.page.contains("onmouseover"), named, "{status}");
        });
    }
}

#[test]
fn a_refused_configuration_is_on_top_of_it_with_its_reason() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("only", backend.address());
    let proxy = Proxy::start(front.config().site(&site));
    let yaml = proxy.config().to_yaml();
    proxy.rewrite_config(&yaml.replace("listeners:", "listenerz:"));
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message().contains("refused"));
    let (_, page) = proxy.get("/");
    assert!(
        page.contains("<h1>One thing needs attention</h1>"),
        "{page}"
    );
    assert!(
        page.contains("<pre>") && page.contains("unknown key"),
        "{page}"
    );
    assert!(!page.contains("listenerz"), "what the file says: {page}");
}

#[test]
fn a_browser_shows_names_as_text_and_has_nothing_to_complain_of() {
    look("full", |scene| {
        for width in WIDTHS {
            let Shown {
                document,
                complaints,
            } = browser::open(&address(&scene.proxy), width);
            assert_eq!(complaints, [""; 0]);
            assert!(document.contains(USER[1]), "{document}");
            assert!(document.contains(FILE[1]), "{document}");
            assert!(!document.contains("<script"), "{document}");
        }
    });
}

#[test]
fn nothing_is_wider_than_the_window_and_tables_are_lists_on_a_telephone() {
    look("full", |scene| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let copy = directory.path().join("page.html");
        // The page itself allows no script.
        let measured = scene.page.replace("</body>", MEASURE);
        fs::write(&copy, measured).expect("the directory is ours");
        for (width, rows) in WIDTHS.into_iter().zip(["grid", "table-row"]) {
            let shown = browser::open(&format!("file://{}", copy.display()), width);
            let expected =
                format!("data-overflowing=\"0\" data-rows=\"{rows}\" data-scripts=\"1\"");
            let (_, rest) = shown.document.split_once("<html ").expect("a root");
            let (root, _) = rest.split_once('>').expect("its end");
            assert!(root.contains(&expected), "{width}: {root}");
        }
    });
}
