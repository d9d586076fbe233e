//! The page at `/`: the files of the folder `web`, embedded, and what browsers are told with them.
//!
//! Nobody needs a key to load it: it holds nothing but itself, and what it asks for does need one.

mod files;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{ApiError, ErrorKind};
use files::{FILES, kind_of};

/// Nothing from elsewhere, nothing to elsewhere, no script that is not a file of ours; and no text
/// may become HTML at all.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";
/// The file that is shown at `/`.
const INDEX: &str = "index.html";

/// The paths of the page, for a router with any state.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route("/page/{*path}", get(file))
        .with_state(Arc::new(Page::new()))
}

/// Whether a path is one of the page's.
pub(crate) fn is_at(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

async fn index(State(page): State<Arc<Page>>, headers: HeaderMap) -> Result<Response, ApiError> {
    page.answer(INDEX, &headers)
}

async fn file(
    State(page): State<Arc<Page>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    page.answer(&path, &headers)
}

/// The files, ready to be sent.
struct Page {
    files: HashMap<&'static str, Prepared>,
}

struct Prepared {
    kind: HeaderValue,
    /// A hash of the content: what a browser has already need not be sent again.
    tag: HeaderValue,
    plain: &'static [u8],
    zipped: Bytes,
}

impl Page {
    fn new() -> Self {
        let files = FILES.iter().map(|(path, bytes)| {
            let hash = blake3::hash(bytes).to_hex();
            let tag = format!("W/\"{}\"", &hash[..16]);
            let prepared = Prepared {
                kind: HeaderValue::from_static(kind_of(path)),
                tag: HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\"")),
                plain: bytes,
                zipped: zipped(bytes),
            };
            (*path, prepared)
        });
        Self {
            files: files.collect(),
        }
    }

    fn answer(&self, path: &str, asked: &HeaderMap) -> Result<Response, ApiError> {
        let file = self.files.get(path).ok_or_else(|| {
            let what = format!("the page has no file `{path}`");
            ApiError::new(ErrorKind::NotFound, what)
        })?;
        let is_known = asked.get(header::IF_NONE_MATCH) == Some(&file.tag);
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(asked) {
            let zip = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (zip, file.zipped.clone()).into_response()
        } else {
            file.plain.into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, file.kind.clone());
        headers.insert(header::ETAG, file.tag.clone());
        for (name, value) in [
            // Browsers ask each time, and are mostly told that nothing has changed.
            (header::CACHE_CONTROL, "no-cache"),
            (header::VARY, "accept-encoding"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }
}

fn zipped(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// Whether a client takes gzip: it is named, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the whole page, as they go over the wire.
    const MOST_ZIPPED: usize = 200_000;

    #[test]
    fn the_page_is_whole_and_small() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut found = Vec::new();
        for part in [
            "",
            "css",
            "js",
            "js/net",
            "js/chat",
            "js/store",
            "js/markdown",
            "js/ui",
        ] {
            for entry in std::fs::read_dir(folder.join(part)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_file() && !["package.json", "README.md"].contains(&&*name) {
                    found.push(format!("{part}/{name}").trim_start_matches('/').to_owned());
                }
            }
        }
        found.sort();
        let mut embedded: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        embedded.sort_unstable();
        assert_eq!(
            embedded, found,
            "the table of files is not what the folder has"
        );
        let size: usize = Page::new()
            .files
            .values()
            .map(|file| file.zipped.len())
            .sum();
        assert!(size < MOST_ZIPPED, "{size} bytes");
    }

    #[test]
    fn modules_are_asked_for_at_once() {
        let index = FILES.iter().find(|(path, _)| *path == INDEX).unwrap().1;
        let index = std::str::from_utf8(index).unwrap();
        for (path, _) in FILES.iter().filter(|(path, _)| path.starts_with("js/")) {
            assert!(index.contains(&format!("\"page/{path}\"")), "{path}");
        }
    }

    #[test]
    fn files_are_sent_as_browsers_want_them() {
        let page = Page::new();
        let mut asked = HeaderMap::new();
        let plain = page.answer(INDEX, &asked).unwrap();
        let header = |name: HeaderName| plain.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header(header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert!(header(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'"));
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        asked.insert(header::ACCEPT_ENCODING, "br, gzip;q=0.5".parse().unwrap());
        let zipped = page.answer("js/main.js", &asked).unwrap();
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(
            zipped.headers()[header::CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        asked.insert(
            header::IF_NONE_MATCH,
            zipped.headers()[header::ETAG].clone(),
        );
        let known = page.answer("js/main.js", &asked).unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert!(page.answer("../Cargo.toml", &asked).is_err());
    }

    #[test]
    fn gzip_is_only_sent_to_who_takes_it() {
        let check = |value: &'static str, takes: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(takes_gzip(&headers), takes, "{value}");
        };
        check("gzip, deflate, br, zstd", true);
        check("br;q=1.0, GZIP;q=0.8", true);
        check("gzip;q=0, identity", false);
        check("gzip; q=0.000", false);
        check("identity", false);
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
